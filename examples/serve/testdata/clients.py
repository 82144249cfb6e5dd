"""Asks a server as programs of the PyPI packages openai and langchain-openai do: python clients.py URL KEY MODEL"""
import sys

import openai
from langchain_openai import ChatOpenAI

url, key, model = sys.argv[1:]
client = openai.OpenAI(base_url=url + "/v1", api_key=key)
messages = [{"role": "user", "content": "One day"}]
common = dict(model=model, messages=messages, max_tokens=20, seed=7, temperature=0.8)

assert [m.id for m in client.models.list()] == [model]
assert client.models.retrieve(model).id == model

whole = client.chat.completions.create(**common, logprobs=True, top_logprobs=3)
text = whole.choices[0].message.content
assert len(text) > 10 and whole.usage.completion_tokens == 20, whole
assert whole.choices[0].finish_reason == "length" and whole.system_fingerprint.startswith("fp_")
logs = whole.choices[0].logprobs.content
assert len(logs) == 20 and len(logs[0].top_logprobs) == 3 and bytes(logs[0].bytes).decode() == logs[0].token

chunks = list(client.chat.completions.create(**common, stream=True, stream_options={"include_usage": True}))
assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
assert chunks[0].choices[0].delta.role == "assistant" and chunks[-2].choices[0].finish_reason == "length"
assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 20

two = client.chat.completions.create(**common, n=2, stop=["xyzzy"])
assert two.choices[0].message.content == text != two.choices[1].message.content

done = client.completions.create(model=model, prompt="One day", max_tokens=20, seed=7, temperature=0.8, logprobs=2)
assert len(done.choices[0].text) > 10 and len(done.choices[0].logprobs.top_logprobs) == 20
streamed = "".join(c.choices[0].text for c in client.completions.create(model=model, prompt="One day", max_tokens=20, seed=7, temperature=0.8, stream=True) if c.choices)
assert streamed == done.choices[0].text


def refused(kind, code, f):
    try:
        f()
    except kind as e:
        assert e.code == code, e
        return e
    raise AssertionError(f"no {kind}")


refused(openai.NotFoundError, "model_not_found", lambda: client.chat.completions.create(**{**common, "model": "none"}))
refused(openai.AuthenticationError, "invalid_api_key", lambda: openai.OpenAI(base_url=url + "/v1", api_key="wrong-key").models.list())
assert refused(openai.BadRequestError, None, lambda: client.chat.completions.create(**{**common, "temperature": -1})).param == "temperature"
refused(openai.BadRequestError, "unsupported_parameter", lambda: client.chat.completions.create(**common, response_format={"type": "json_object"}))
refused(openai.NotFoundError, "unsupported_endpoint", lambda: client.embeddings.create(model=model, input="x"))

# a stream that is left
with client.chat.completions.create(**{**common, "max_tokens": 4000}, stream=True) as stream:
    for i, _ in enumerate(stream):
        if i == 5:
            break

# a session: the server keeps the conversation
extra = {"state": {"session": "python"}}
first = client.chat.completions.create(**common, extra_body=extra)
then = client.chat.completions.create(**{**common, "messages": [{"role": "user", "content": "Then"}]}, extra_body=extra)
assert then.state["parent"] == first.state["id"], (first, then)

# a retry: the second of two writers of a session is refused, and comes again by itself
import threading

results = []
threads = [threading.Thread(target=lambda: results.append(client.with_options(max_retries=20).chat.completions.create(**common, extra_body=extra))) for _ in range(2)]
[t.start() for t in threads]
[t.join() for t in threads]
assert len(results) == 2 and {r.state["parent"] for r in results} >= {then.state["id"]}, results

chat = ChatOpenAI(model=model, base_url=url + "/v1", api_key=key, max_tokens=20, temperature=0.8, seed=7)
assert chat.invoke("One day").content == text
assert "".join(c.content for c in chat.stream("One day")) == text
assert chat.invoke([("system", "Tell a story."), ("human", "One day")]).usage_metadata["output_tokens"] == 20
assert len(chat.batch(["One day", "Once"])) == 2
print("ok")
