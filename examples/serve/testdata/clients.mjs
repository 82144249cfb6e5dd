// Asks a server as programs of the npm package openai do: node clients.mjs URL KEY MODEL
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const [url, apiKey, model] = process.argv.slice(2);
const require = createRequire(join(process.env.MICRORWKV_CLIENTS, "x.js"));
const OpenAI = require("openai").default ?? require("openai");
const client = new OpenAI({ baseURL: url + "/v1", apiKey });
const messages = [{ role: "user", content: "One day" }];
const common = { model, messages, max_tokens: 20, seed: 7, temperature: 0.8 };

const models = [];
for await (const m of client.models.list()) models.push(m.id);
assert.deepEqual(models, [model]);

const whole = await client.chat.completions.create({ ...common, logprobs: true, top_logprobs: 3 });
assert.ok(whole.choices[0].message.content.length > 10);
assert.equal(whole.usage.completion_tokens, 20);
assert.equal(whole.choices[0].logprobs.content.length, 20);
assert.equal(whole.choices[0].logprobs.content[0].top_logprobs.length, 3);

let text = "", usage = null, reason = null;
const stream = await client.chat.completions.create({ ...common, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  reason = chunk.choices[0]?.finish_reason ?? reason;
  usage = chunk.usage ?? usage;
}
assert.equal(text, whole.choices[0].message.content);
assert.equal(reason, "length");
assert.equal(usage.completion_tokens, 20);

const helper = client.chat.completions.stream(common);
assert.equal((await helper.finalChatCompletion()).choices[0].message.content, text);

const completion = await client.completions.create({ model, prompt: "One day", max_tokens: 20, seed: 7, temperature: 0.8, logprobs: 2, echo: false });
assert.ok(completion.choices[0].text.length > 10);
assert.equal(completion.choices[0].logprobs.tokens.length, 20);

await assert.rejects(client.chat.completions.create({ ...common, model: "none" }), (e) => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");
await assert.rejects(client.chat.completions.create({ ...common, temperature: -1 }), (e) => e instanceof OpenAI.BadRequestError && e.param === "temperature");
await assert.rejects(new OpenAI({ baseURL: url + "/v1", apiKey: "wrong-key" }).models.list(), (e) => e instanceof OpenAI.AuthenticationError);
await assert.rejects(client.embeddings.create({ model, input: "x" }), (e) => e instanceof OpenAI.NotFoundError);

const endless = await client.chat.completions.create({ ...common, max_tokens: 4000, stream: true });
let pieces = 0;
for await (const _ of endless) if (++pieces === 5) endless.controller.abort();
assert.ok(pieces >= 5 && pieces < 4000);

const saved = await client.chat.completions.create({ ...common, state: { save: true } });
const next = await client.chat.completions.create({ ...common, messages: [{ role: "user", content: "Then" }], state: { id: saved.state.id } });
assert.ok(next.choices[0].message.content.length > 0);
console.log("ok");
