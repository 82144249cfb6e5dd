// Uses the chat page as a person does: node page.mjs URL CHROMIUM FOLDER. Screenshots go to the folder.
import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { createRequire } from "node:module";

const [url, executablePath, folder] = process.argv.slice(2);
const { chromium } = createRequire(join(process.env.MICRORWKV_CLIENTS, "x.js"))("playwright-core");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: { width: 900, height: 700 }, acceptDownloads: true });
const page = await context.newPage();
const wrong = [];
page.on("pageerror", (e) => wrong.push(String(e)));
page.on("console", (m) => { if (m.type() === "error" && !m.text().includes("404")) wrong.push(m.text()); });

const answers = page.locator("li.assistant");
const done = async (n) => {
  await page.waitForFunction((n) => document.querySelectorAll("li.assistant").length === n && document.getElementById("stop").hidden, n);
};
const said = (i) => answers.nth(i).locator(".said").textContent();
const say = async (text) => {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
};

await page.goto(url);
await page.waitForSelector("#model option", { state: "attached" });
await page.click("summary");
await page.fill("#max_tokens", "40");
await page.fill("#seed", "7");
await page.fill("#temperature", "0.8");
await page.click("#settings > summary");

// a message, its answer, and one after it
await say("One day, a cat");
await done(1);
const first = await said(0);
assert.ok(first.length > 20, first);
assert.match(await page.textContent("#speed"), /tokens\/s/);
await say("The next day");
await done(2);
const second = await said(1);
await page.screenshot({ path: join(folder, "chat.png") });

// another answer with another seed is a branch; the first stays
await page.click("#settings > summary");
await page.fill("#seed", "8");
await page.click("#settings > summary");
await answers.nth(1).getByText("Regenerate").click();
await done(2);
assert.notEqual(await said(1), second);
assert.equal(await answers.nth(1).locator(".branch").textContent(), "2 / 2");
await answers.nth(1).getByLabel("Branch before").click();
assert.equal(await said(1), second);

// another message in place of the second: it goes on from the first answer's state
await page.locator("li.user").nth(1).getByText("Branch").click();
assert.equal(await page.inputValue("#text"), "The next day");
const [request] = await Promise.all([page.waitForRequest((r) => r.url().endsWith("/chat/completions")), say("But")]);
assert.equal(request.postDataJSON().messages.length, 1);
assert.match(request.postDataJSON().state.id, /^st_/);
await done(2);
assert.equal(await said(0), first);

// stop, by the keyboard
await page.click("#settings > summary");
await page.fill("#max_tokens", "4000");
await page.click("#settings > summary");
await say("And then");
await page.waitForFunction(() => document.querySelectorAll("li.assistant")[2]?.querySelector(".said").textContent.length > 20);
await page.keyboard.press("Escape");
await done(3);
assert.match(await answers.nth(2).textContent(), /stopped/);
await page.click("#settings > summary");
await page.fill("#max_tokens", "40");
await page.click("#settings > summary");

// a reload keeps it all
await page.reload();
await done(3);
assert.equal(await said(0), first);

// a state out and in, and on from it
const [file] = await Promise.all([page.waitForEvent("download"), answers.nth(0).getByText("Save state").click()]);
const path = join(folder, "turn.state");
await file.saveAs(path);
assert.equal((await readFile(path)).subarray(0, 8).toString(), "RWKVSTAT");
await page.click("#settings > summary");
await page.fill("#seed", "7");
await page.fill("#temperature", "0.8");
await page.fill("#max_tokens", "40");
await page.setInputFiles("#upload", path);
await page.waitForFunction(() => document.querySelector("li.assistant .said")?.textContent.includes("turn.state"));
await page.click("#settings > summary");
await say("The next day");
await done(2);
assert.equal(await said(1), second, "going on from the file gives another text");

// what is said is text, not HTML
await page.click("#settings > summary");
await page.click("#new");
await page.click("#settings > summary");
await say("<img src=x onerror=alert(1)><b>bold</b>");
await done(1);
assert.equal(await page.locator("li img, li b").count(), 0);

// a phone: nothing is wider than the screen, everything has a name, the keyboard reaches it
await page.setViewportSize({ width: 360, height: 640 });
await page.click("#settings > summary");
assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 360));
await page.screenshot({ path: join(folder, "phone.png") });
const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, select, textarea")]
  .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).map((e) => e.id));
assert.deepEqual(nameless, []);
await page.focus("#text");
await page.keyboard.press("Tab");
assert.equal(await page.evaluate(() => document.activeElement.id), "send");

for (const name of ["chat.png", "phone.png"]) assert.ok((await stat(join(folder, name))).size < 150000, name + " is large");
assert.deepEqual(wrong, []);
await browser.close();
console.log("ok");
