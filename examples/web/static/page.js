const $ = (id) => document.getElementById(id);
const worker = new Worker("worker.js");
const waiting = new Map();
let next = 1, running = false;

// call has the worker do something; pieces come to onPiece.
function call(action, more = {}, onPiece = null) {
  return new Promise((resolve, reject) => {
    waiting.set(next, { resolve, reject, onPiece });
    worker.postMessage({ do: action, id: next++, ...more });
  });
}

worker.onmessage = ({ data }) => {
  if (data.progress !== undefined) {
    $("progress").value = data.total ? data.progress / data.total : 0;
    $("status").textContent = `Loading the model: ${(data.progress / 1e6).toFixed(1)} MB`;
    return;
  }
  const w = waiting.get(data.id);
  if (data.piece !== undefined) return w.onPiece(data);
  waiting.delete(data.id);
  if (data.error !== undefined) w.reject(new Error(data.error));
  else w.resolve(data.value);
};
worker.onerror = (e) => fail(new Error(e.message));

function fail(e) {
  $("error").textContent = e ? e.message : "";
}

function speed(tokens, seconds) {
  if (tokens > 1 && seconds > 0) $("speed").textContent = `${(tokens / seconds).toFixed(1)} tokens/s`;
}

function busy(on) {
  running = on;
  $("send").hidden = on;
  $("stop").hidden = !on;
  for (const id of ["save", "load", "model", "new"]) $(id).disabled = on;
}

function message(who, text) {
  const li = document.createElement("li");
  li.className = who === "You" ? "user" : "assistant";
  const name = document.createElement("p"), said = document.createElement("p");
  name.className = "who";
  name.textContent = who;
  said.className = "said";
  said.textContent = text;
  li.append(name, said);
  $("log").append(li);
  li.scrollIntoView({ block: "end" });
  return said;
}

// opened tells what model there is.
function opened(name, m) {
  $("progress").hidden = true;
  $("send").disabled = false;
  $("log").replaceChildren();
  $("status").textContent = `${name}: ${m.kind}, ${(m.parameters / 1e6).toFixed(1)} million parameters, kernels ${m.kernel}.` +
    (m.trained ? "" : " It goes on with what you write: it isn't trained to answer.");
}

async function open(name, ready) {
  fail(null);
  $("send").disabled = true;
  try {
    opened(name, await ready());
  } catch (e) {
    $("status").textContent = "";
    fail(e);
  }
}

$("form").addEventListener("submit", async (e) => {
  e.preventDefault();
  const text = $("text").value.trim();
  if (!text || running || $("send").disabled) return;
  fail(null);
  $("text").value = "";
  const settings = {};
  for (const id of ["temperature", "top_p", "top_k", "max_tokens", "seed"]) if ($(id).value !== "") settings[id] = Number($(id).value);
  message("You", text);
  const said = message("Model", "");
  said.parentElement.setAttribute("aria-busy", "true");
  busy(true);
  try {
    const r = await call("say", { text, settings }, (p) => {
      said.textContent += p.piece;
      speed(p.tokens, p.seconds);
      const main = document.querySelector("main");
      if (main.scrollHeight - main.scrollTop - main.clientHeight < 100) main.scrollTop = main.scrollHeight;
    });
    speed(r.tokens, r.seconds);
    said.dataset.reason = r.reason;
  } catch (err) {
    fail(err);
  }
  said.parentElement.setAttribute("aria-busy", "false");
  busy(false);
  $("text").focus();
});
$("text").addEventListener("keydown", (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
    e.preventDefault();
    $("form").requestSubmit();
  }
});
document.addEventListener("keydown", (e) => {
  if (e.key === "Escape" && running) call("stop");
});
$("stop").addEventListener("click", () => call("stop"));
$("new").addEventListener("click", () => call("reset").then(() => $("log").replaceChildren(), fail));
$("save").addEventListener("click", async () => {
  try {
    const url = URL.createObjectURL(new Blob([await call("save")]));
    const a = document.createElement("a");
    a.href = url;
    a.download = "conversation.state";
    a.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  } catch (e) {
    fail(e);
  }
});
$("load").addEventListener("change", async (e) => {
  const file = e.target.files[0];
  if (!file) return;
  fail(null);
  try {
    const n = await call("load", { file });
    $("log").replaceChildren();
    message("Model", `(${file.name}: ${n} tokens)`);
  } catch (err) {
    fail(err);
  }
  e.target.value = "";
});
$("model").addEventListener("change", (e) => {
  const file = e.target.files[0];
  if (file) open(file.name, () => call("file", { file }));
  e.target.value = "";
});

open("The demo", () => call("fetch", { url: "demo.pt", name: "demo.pt" }));
