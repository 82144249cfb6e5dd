// Uses the page as a person does: node web.mjs URL CHROMIUM FOLDER MODEL. The screenshot goes to the folder.
import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";

const [url, executablePath, folder, model] = process.argv.slice(2);
const { chromium } = createRequire(join(process.env.MICRORWKV_CLIENTS, "x.js"))("playwright-core");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await (await browser.newContext({ viewport: { width: 400, height: 700 }, acceptDownloads: true })).newPage();
page.setDefaultTimeout(120000);
const wrong = [];
page.on("pageerror", (e) => wrong.push(String(e)));
page.on("console", (m) => { if (m.type() === "error") wrong.push(m.text()); });

const answer = (i) => page.locator("li.assistant .said").nth(i).textContent();
const say = async (text) => {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
};
const done = (n) => page.waitForFunction((n) => document.querySelectorAll("li.assistant").length === n && document.getElementById("stop").hidden, n);
const ready = () => page.waitForFunction(() => document.getElementById("status").textContent.includes("million"));
const set = async (id, value) => {
  await page.click("summary");
  await page.fill(id, value);
  await page.click("summary");
};

await page.goto(url);
await ready();
assert.match(await page.textContent("#status"), /reference, 8\.9 million parameters, kernels simd128/);
await set("#seed", "7");
await set("#max_tokens", "30");
await say("One day");
await done(1);
const first = await answer(0);
assert.ok(first.length > 20, first);
const speed = await page.textContent("#speed");
assert.match(speed, /[1-9].*tokens\/s/);
await page.screenshot({ path: join(folder, "web.png") });
assert.ok((await stat(join(folder, "web.png"))).size < 150000);

// the state out
await page.click("summary");
const [file] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
await page.click("summary");
const path = join(folder, "web.state");
await file.saveAs(path);
assert.equal((await readFile(path)).subarray(0, 8).toString(), "RWKVSTAT");
await say("The next day");
await done(2);
const second = await answer(1);

// stop
await set("#max_tokens", "2000");
await say("And then");
await page.waitForFunction(() => document.querySelectorAll("li.assistant .said")[2]?.textContent.length > 10);
await page.click("#stop");
await done(3);
assert.equal(await page.locator("li.assistant .said").nth(2).getAttribute("data-reason"), "interrupted");

// a reload finds the model kept; the state in gives the same text
await page.reload();
await ready();
await set("#seed", "7");
await set("#max_tokens", "30");
await page.setInputFiles("#load", path);
await page.waitForFunction(() => document.querySelector("li.assistant"));
await say("The next day");
await done(2);
assert.equal(await answer(1), second);

// a file of the visitor's own
await page.setInputFiles("#model", model);
await page.waitForFunction((name) => document.getElementById("status").textContent.startsWith(name), model.split("/").at(-1));
await say("One day");
await done(1);
assert.equal(await answer(0), first);

// what isn't a model is said to be none
await page.setInputFiles("#model", path);
await page.waitForFunction(() => document.getElementById("error").textContent !== "");
assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 400));
assert.deepEqual(wrong, []);
await browser.close();
console.log(speed);
console.log("ok");
