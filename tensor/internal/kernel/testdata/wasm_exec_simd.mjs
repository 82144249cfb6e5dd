// Runs a Go program for js/wasm with the module simd.wasm: node wasm_exec_simd.mjs PROGRAM [ARG…], with the
// folder of Go's lib/wasm in the variable GO_LIB_WASM.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
globalThis.require = require;
globalThis.fs = require("node:fs");
globalThis.path = require("node:path");
globalThis.crypto ??= require("node:crypto").webcrypto;
require(join(process.env.GO_LIB_WASM, "wasm_exec.js"));

const go = new Go();
go.argv = process.argv.slice(2);
go.env = Object.assign({ TMPDIR: "/tmp" }, process.env);
go.exit = process.exit;
let simd;
const late = (name) => (...args) => simd.exports[name](...args);
go.importObject.microrwkv = { ntF32: late("ntF32"), ntBF16: late("ntBF16"), nn: late("nn") };
const program = await WebAssembly.instantiate(readFileSync(process.argv[2]), go.importObject);
const module = new WebAssembly.Module(readFileSync(new URL("../../../wasmsimd/simd.wasm", import.meta.url)));
simd = new WebAssembly.Instance(module, { go: { mem: program.instance.exports.mem } });
process.on("exit", (code) => {
  if (code === 0 && !go.exited) {
    go._pendingEvent = { id: 0 };
    go._resume();
  }
});
await go.run(program.instance);
