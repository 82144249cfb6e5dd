// The conversation is a tree: a node is a message, and an answer's has the id of the state after it, so
// that a branch goes on from there without reading anything again.
const $ = (id) => document.getElementById(id);
const kept = "microrwkv.conversation";

let tree = { nodes: {}, root: [], at: null, next: 1 };
let running = null; // the AbortController of an answer that is being written
let models = [];

function load() {
  try {
    const t = JSON.parse(localStorage.getItem(kept));
    if (t && t.nodes && Array.isArray(t.root)) tree = t;
  } catch { /* begin anew */ }
}

function save() {
  try {
    localStorage.setItem(kept, JSON.stringify(tree));
  } catch { /* the page works without */ }
}

function add(parent, node) {
  node.id = String(tree.next++);
  node.parent = parent;
  node.children = [];
  tree.nodes[node.id] = node;
  siblings(node).push(node.id);
  tree.at = node.id;
  return node;
}

function siblings(node) {
  return node.parent ? tree.nodes[node.parent].children : tree.root;
}

// path returns the messages from the first to a node.
function path(id) {
  const list = [];
  for (let n = tree.nodes[id]; n; n = tree.nodes[n.parent]) list.unshift(n);
  return list;
}

// newest returns the end of the newest branch below a node.
function newest(id) {
  let n = tree.nodes[id];
  while (n.children.length) n = tree.nodes[n.children[n.children.length - 1]];
  return n.id;
}

function element(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) {
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else e.setAttribute(k, v);
  }
  e.append(...children);
  return e;
}

function button(text, label, f) {
  const b = element("button", { type: "button", "aria-label": label, onclick: f }, text);
  b.disabled = running !== null;
  return b;
}

function show() {
  $("log").replaceChildren(...(tree.at ? path(tree.at) : []).map(item));
  $("send").hidden = running !== null;
  $("stop").hidden = running === null;
  const m = models.find((m) => m.id === $("model").value);
  $("hint").textContent = m && m.trained_to_chat === false ? "This model goes on with what you write. It isn't trained to answer." : "";
}

// item returns a message as the page shows it.
function item(node) {
  const said = element("p", { class: "said" }, node.text);
  const parts = [element("p", { class: "who" }, node.role === "user" ? "You" : "Model")];
  if (node.role === "assistant" && (node.thoughts || node.busy)) {
    const d = element("details", { class: "thoughts" }, element("summary", {}, "Thoughts"), element("span", {}, node.thoughts || ""));
    d.hidden = !node.thoughts;
    parts.push(d);
  }
  parts.push(said);
  const actions = element("div", { class: "actions" });
  const all = siblings(node);
  if (all.length > 1) {
    const i = all.indexOf(node.id);
    const go = (step) => () => { tree.at = newest(all[(i + step + all.length) % all.length]); save(); show(); };
    actions.append(button("‹", "Branch before", go(-1)), element("span", { class: "branch" }, `${i + 1} / ${all.length}`), button("›", "Next branch", go(1)));
  }
  if (node.role === "user") {
    actions.append(button("Branch", "Write another message in place of this one", () => {
      tree.at = node.parent;
      show();
      $("text").value = node.text;
      $("text").focus();
      save();
    }));
  } else if (!node.busy) {
    if (node.parent) actions.append(button("Regenerate", "Another answer", () => answer(tree.nodes[node.parent])));
    if (node.state) actions.append(button("Save state", "Save the conversation's state as a file", () => download(node)));
    if (node.rate) actions.append(element("span", { class: "rate" }, `${node.tokens} tokens, ${node.rate.toFixed(1)} tokens/s`));
    if (node.ended === "stopped") actions.append(element("span", {}, "stopped"));
  }
  parts.push(actions);
  return element("li", { class: node.role, "data-node": node.id, "aria-busy": String(Boolean(node.busy)) }, ...parts);
}

function fail(message) {
  $("error").textContent = message;
}

function headers(more) {
  const h = { ...more };
  if ($("key").value) h.Authorization = "Bearer " + $("key").value;
  return h;
}

// explain returns what is wrong with an answer that isn't one.
async function explain(r) {
  try {
    const e = (await r.json()).error;
    return Object.assign(new Error(e.message), { code: e.code });
  } catch {
    return new Error(`the server answers ${r.status}`);
  }
}

function request(user, withState) {
  const before = user.parent ? tree.nodes[user.parent] : null;
  const body = { model: $("model").value, stream: true, stream_options: { include_usage: true }, state: { save: true } };
  for (const id of ["temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "max_tokens", "seed"]) {
    if ($(id).value !== "") body[id] = Number($(id).value);
  }
  if ($("effort").value) body.reasoning_effort = $("effort").value;
  if (before && before.state && withState) {
    body.state.id = before.state;
    body.messages = [{ role: "user", content: user.text }];
  } else {
    body.messages = path(user.id).filter((n) => !n.file).map((n) => ({ role: n.role, content: n.text }));
    if ($("system").value) body.messages.unshift({ role: "system", content: $("system").value });
  }
  return body;
}

async function ask(user, signal) {
  const post = (withState) => fetch("v1/chat/completions", {
    method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(request(user, withState)), signal,
  });
  let r = await post(true);
  if (r.status === 404) {
    const e = await explain(r);
    if (e.code !== "state_not_found") throw e;
    r = await post(false); // the server has forgotten the state: read all again
  }
  if (!r.ok) throw await explain(r);
  return r;
}

// lines yields the data of server-sent events.
async function* events(stream) {
  let rest = "";
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const l of lines) if (l.startsWith("data: ")) yield l.slice(6);
  }
}

// answer has the model answer a message.
async function answer(user) {
  if (running) return;
  running = new AbortController();
  fail("");
  const node = add(user.id, { role: "assistant", text: "", thoughts: "", busy: true });
  show();
  const li = $("log").lastElementChild;
  const said = li.querySelector(".said"), thoughts = li.querySelector(".thoughts");
  let begin = 0, pieces = 0;
  try {
    const r = await ask(user, running.signal);
    let ended = false;
    for await (const data of events(r.body)) {
      if (data === "[DONE]") { ended = true; break; }
      const e = JSON.parse(data);
      if (e.error) throw new Error(e.error.message);
      if (e.state) {
        node.state = e.state.id;
        if (e.state.error) fail("The state wasn't kept: " + e.state.error.message);
      }
      if (e.usage) node.tokens = e.usage.completion_tokens;
      const d = e.choices[0]?.delta ?? {};
      if (d.reasoning_content) {
        node.thoughts += d.reasoning_content;
        thoughts.hidden = false;
        thoughts.lastElementChild.textContent = node.thoughts;
      }
      if (d.content) {
        node.text += d.content;
        said.textContent = node.text;
      }
      if (d.content || d.reasoning_content) {
        begin ||= performance.now();
        pieces++;
        const rate = pieces / ((performance.now() - begin) / 1000);
        if (pieces > 5) $("speed").textContent = `${rate.toFixed(1)} tokens/s`;
        const main = document.querySelector("main");
        if (main.scrollHeight - main.scrollTop - main.clientHeight < 100) main.scrollTop = main.scrollHeight;
      }
      if (e.choices[0]?.finish_reason) {
        node.ended = e.choices[0].finish_reason;
        node.seconds = (performance.now() - begin) / 1000;
      }
    }
    if (!ended) throw new Error("the answer was cut short");
    if (node.tokens > 1 && node.seconds > 0) {
      node.rate = (node.tokens - 1) / node.seconds;
      $("speed").textContent = `${node.rate.toFixed(1)} tokens/s`;
    }
  } catch (e) {
    if (e.name === "AbortError") node.ended = "stopped";
    else fail(e.message);
  }
  delete node.busy;
  running = null;
  save();
  show();
  $("text").focus();
}

async function download(node) {
  const r = await fetch(`v1/states/${encodeURIComponent(node.state)}/data`, { headers: headers({}) });
  if (!r.ok) return fail((await explain(r)).message);
  const url = URL.createObjectURL(await r.blob());
  element("a", { href: url, download: node.state + ".state" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

async function upload(file) {
  fail("");
  const id = "up_" + Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
  const r = await fetch(`v1/states/${id}/data?model=${encodeURIComponent($("model").value)}`, { method: "PUT", headers: headers({}), body: file });
  if (!r.ok) return fail((await explain(r)).message);
  const s = await r.json();
  add(null, { role: "assistant", text: `(${file.name}: ${s.tokens} tokens)`, state: s.id, file: true });
  save();
  show();
}

async function list() {
  const r = await fetch("v1/models", { headers: headers({}) });
  if (!r.ok) return fail((await explain(r)).message);
  models = (await r.json()).data;
  const was = $("model").value;
  $("model").replaceChildren(...models.map((m) => element("option", { value: m.id }, m.id)));
  if (was) $("model").value = was;
  fail("");
  show();
  if (models.some((m) => !m.ready)) setTimeout(list, 1000);
}

$("form").addEventListener("submit", (e) => {
  e.preventDefault();
  const text = $("text").value.trim();
  if (!text || running) return;
  $("text").value = "";
  answer(add(tree.at, { role: "user", text }));
});
$("text").addEventListener("keydown", (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
    e.preventDefault();
    $("form").requestSubmit();
  }
});
document.addEventListener("keydown", (e) => {
  if (e.key === "Escape" && running) running.abort();
});
$("stop").addEventListener("click", () => running?.abort());
$("new").addEventListener("click", () => {
  if (running) return;
  tree.at = null;
  save();
  show();
  $("text").focus();
});
$("upload").addEventListener("change", (e) => {
  if (e.target.files[0] && !running) upload(e.target.files[0]);
  e.target.value = "";
});
$("model").addEventListener("change", show);
$("key").addEventListener("change", list);

load();
for (const n of Object.values(tree.nodes)) delete n.busy;
show();
list();
