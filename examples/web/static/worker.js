// The model runs here, so that the page stays free. Messages in: {do, id, …}; out: {id, value | error},
// {progress}, and the pieces of an answer.
importScripts("wasm_exec.js");

// unzip fetches a file that is compressed, whatever the server makes of it.
async function unzip(name) {
  const r = await fetch(name);
  if (!r.ok) throw new Error(`${name}: ${r.status}`);
  const bytes = new Uint8Array(await r.arrayBuffer());
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes; // the server's headers had it unpacked
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

// begin starts the program, with the products of simd.wasm where there is SIMD.
const begin = (async () => {
  const go = new Go();
  let simd = null;
  const module = await WebAssembly.compile(await (await fetch("simd.wasm")).arrayBuffer()).catch(() => null);
  if (!module) go.env.MICRORWKV_KERNEL = "generic";
  const late = (name) => (...args) => simd.exports[name](...args);
  go.importObject.microrwkv = { ntF32: late("ntF32"), ntBF16: late("ntBF16"), nn: late("nn") };
  const { instance } = await WebAssembly.instantiate(await unzip("app.wasm.gz"), go.importObject);
  if (module) simd = await WebAssembly.instantiate(module, { go: { mem: instance.exports.mem } });
  await new Promise((ready) => {
    self.ready = ready;
    go.run(instance);
  });
})();

// fetchModel returns a model's bytes, kept from the last time or with progress.
async function fetchModel(url) {
  const cache = await caches.open("microrwkv-models").catch(() => null);
  const kept = await cache?.match(url);
  if (kept) return { bytes: new Uint8Array(await kept.arrayBuffer()), kept: true };
  const r = await fetch(url);
  if (!r.ok) throw new Error(`${url}: ${r.status}`);
  const total = Number(r.headers.get("Content-Length")) || 0;
  const reader = r.body.getReader();
  const parts = [];
  let n = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    n += value.length;
    postMessage({ progress: n, total });
  }
  const bytes = new Uint8Array(n);
  n = 0;
  for (const p of parts) {
    bytes.set(p, n);
    n += p.length;
  }
  await cache?.put(url, new Response(bytes)).catch(() => {});
  return { bytes, kept: false };
}

const unwrap = (r) => {
  if (r.error) throw new Error(r.error);
  return r.value;
};

const actions = {
  async fetch({ url, name }) {
    const { bytes, kept } = await fetchModel(url);
    return { ...unwrap(microrwkv.open(name, bytes)), kept };
  },
  async file({ file }) {
    return unwrap(microrwkv.open(file.name, new Uint8Array(await file.arrayBuffer())));
  },
  async load({ file }) {
    return unwrap(microrwkv.load(new Uint8Array(await file.arrayBuffer())));
  },
  save: async () => unwrap(microrwkv.save()),
  reset: async () => unwrap(microrwkv.reset()),
  stop: async () => unwrap(microrwkv.stop()),
  say: ({ text, settings, id }) => new Promise((resolve, reject) => {
    microrwkv.say(text, JSON.stringify(settings), (kind, text, tokens, seconds) => {
      if (kind === "piece") postMessage({ id, piece: text, tokens, seconds });
      else if (kind === "error") reject(new Error(text));
      else resolve({ reason: text, tokens, seconds });
    });
  }),
};

onmessage = async ({ data }) => {
  try {
    await begin;
    postMessage({ id: data.id, value: await actions[data.do](data) });
  } catch (e) {
    postMessage({ id: data.id, error: e.message });
  }
};
