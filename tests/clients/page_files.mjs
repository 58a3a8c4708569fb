// Uploads and files in the demo page: page_files.mjs CHROMIUM ADDRESS FOLDER; prints its results.
// It prints "kill" and "start" where the service must end and begin, and waits for a line each time.
// The folder has big.bin, away.bin, small.bin, picture.png, notes.txt and tone.wav. Screenshots and
// downloads go to it.
import { once } from "node:events";
import { chromium } from "playwright-core";

const [executablePath, address, folder] = process.argv.slice(2);
const key = new URL(address).hash.replace("#key=", "");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const context = await browser.newContext();
context.setDefaultTimeout(60_000);
const errors = [];
const leaks = [];
const sent = []; // the requests that append to uploads
const ranges = []; // what the player has asked for

async function open(url) {
  const page = await context.newPage();
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("dialog", (dialog) => dialog.accept()); // before a reload during an upload
  // Chromium logs each request that fails while the service is away.
  page.on("console", (each) => /^Failed to load/.test(each.text()) || errors.push(each.text()));
  page.on("request", (each) => {
    if (each.url().includes(key)) leaks.push(each.url());
    if (each.method() === "PATCH") sent.push(each);
    if (/inline=1/.test(each.url()) && each.headers().range) ranges.push(each.headers().range);
  });
  page.throttle = async (uploadThroughput) => {
    const cdp = (page.cdp ??= await context.newCDPSession(page));
    const limits = { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput };
    await cdp.send("Network.enable");
    await cdp.send("Network.emulateNetworkConditions", limits);
  };
  await page.goto(url);
  await page.getByText(/^Live/).waitFor();
  return page;
}

const page = await open(address);
const button = (name, scope = page) => scope.getByRole("button", { name, exact: true });
const row = (name) => page.locator("#upload-rows li", { hasText: name });
const choose = (...names) =>
  page.locator("#upload-input").setInputFiles(names.map((name) => `${folder}/${name}`));
const shot = (name) => page.screenshot({ path: `${folder}/${name}.png` });
const saved = () => page.evaluate(() => JSON.parse(localStorage["uploads of /"] ?? "[]"));

async function reload() {
  await page.reload();
  await page.getByText(/^Live/).waitFor();
}

/** Wait until a part of a file was sent, which must be larger than all buffers. */
async function progress(name, part) {
  await row(name).waitFor();
  const bar = await row(name).locator("progress").elementHandle();
  await page.waitForFunction(([each, least]) => each.value > least, [bar, part]);
}

async function ask(what) {
  console.log(what);
  await once(process.stdin, "data");
}

// The service is killed after an upload was paused, another one was cancelled, and during a third.
await page.getByText("No files yet.").waitFor();
await page.throttle(20e6);
await choose("big.bin");
await progress("big.bin", 0.1);
const about = await row("big.bin").locator(".hint").textContent();
await button("Pause big.bin").click();
await row("big.bin").getByText(/^Paused at [1-9]/).waitFor();
await choose("small.bin");
await progress("small.bin", 0.2);
const cancelled = (await saved()).at(-1).url;
await button("Cancel small.bin").click();
await row("small.bin").getByText("Cancelled", { exact: true }).waitFor();
const headers = { Authorization: `Bearer ${key}` };
const gone = (await page.request.head(new URL(cancelled, address).href, { headers })).status();
await choose("away.bin");
await progress("away.bin", 0.2);
await shot("uploads");
const other = await open(address.split("#")[0]);
await other.getByText("open in another tab").first().waitFor();
await other.close();
await ask("kill");
await row("away.bin").getByText(/Trying again in/).waitFor();
await shot("away");
await ask("start");
await row("away.bin").getByText(/^Uploaded/).waitFor();

// The paused upload continues after a reload, with the same file.
await page.throttle(-1);
await reload();
await row("big.bin").getByText(/stored, for .* Choose the file again to continue/).waitFor();
await shot("unfinished");
const unfinished = (await saved()).map((each) => each.name);
const chooser = page.waitForEvent("filechooser");
await button("Choose file big.bin").click();
const wrong = { name: "wrong.txt", mimeType: "text/plain", buffer: Buffer.from("wrong") };
await (await chooser).setFiles(wrong);
await row("big.bin").getByText(/^The chosen file is another one/).waitFor();
await row("wrong.txt").getByText(/^Uploaded/).waitFor();
sent.length = 0;
// It is paused and resumed before the browser has given the lock of the upload.
await page.evaluate(() => {
  const { locks } = navigator;
  const request = locks.request.bind(locks);
  const gate = new Promise((resolve) => (window.openGate = resolve));
  window.claims = 0;
  locks.request = async (...all) => {
    window.claims += 1;
    await gate;
    return request(...all);
  };
});
await choose("big.bin");
await page.waitForFunction(() => window.claims);
await button("Pause big.bin").click();
await button("Resume big.bin").click();
const claims = await page.evaluate(() => {
  window.openGate();
  return window.claims;
});
await row("big.bin").getByText(/^Uploaded/).waitFor();
const offsets = sent.map((each) => Number(each.headers()["upload-offset"]));
const kept = await saved();

// A file is dropped on the page.
const dataTransfer = await page.evaluateHandle(() => {
  const dropped = new DataTransfer();
  dropped.items.add(new File(["dropped"], "dropped.txt", { type: "text/plain" }));
  return dropped;
});
await page.dispatchEvent("body", "dragover", { dataTransfer });
await page.locator("#drop-zone.over").waitFor();
await page.dispatchEvent("body", "drop", { dataTransfer });
await page.locator("#file-rows").getByText("dropped.txt").waitFor();

// Previews, with signed links.
await choose("picture.png", "notes.txt", "tone.wav");
await page.locator("#file-rows").getByText("tone.wav").waitFor();
const dialog = page.locator("#preview");

async function preview(name, show) {
  await button(`Preview ${name}`).click();
  const found = await show();
  await shot(`preview-${name}`);
  await button("Close", dialog).click();
  await dialog.waitFor({ state: "hidden" });
  return found;
}

const width = await preview("picture.png", async () => {
  await dialog.locator("img").waitFor();
  return dialog.locator("img").evaluate((image) => image.naturalWidth);
});
const text = await preview("notes.txt", () => dialog.locator("pre").textContent());
const seeked = await preview("tone.wav", async () => {
  await page.locator("#preview[data-state=shown] audio").waitFor();
  return dialog.locator("audio").evaluate(async (audio) => {
    const reached = new Promise((resolve) => (audio.onseeked = resolve));
    audio.currentTime = audio.duration * 0.9;
    await reached;
    return audio.currentTime / audio.duration;
  });
});
// A link that arrives when its dialog is closed must not show its file in the next one.
let hold;
const link = new Promise((resolve) => (hold = resolve));
await page.route("**/files/*/links", hold, { times: 1 });
await button("Preview picture.png").click();
await link;
await button("Close", dialog).click();
await button("Preview notes.txt").click();
await dialog.locator("pre").waitFor();
const arrived = page.waitForResponse("**/files/*/links");
await (await link).continue();
await (await arrived).finished();
await page.evaluate(async () => (await fetch("health/live")).text()); // later than the link
const mixed = await dialog.locator("img").count();
await button("Close", dialog).click();
await dialog.waitFor({ state: "hidden" });

const starts = ranges.map((each) => Number(/\d+/.exec(each)));

// Downloads: under another name, and of a selection.
async function download(control) {
  const [found] = await Promise.all([page.waitForEvent("download"), control.click()]);
  await found.saveAs(`${folder}/downloads/${found.suggestedFilename()}`);
  return found.suggestedFilename();
}

await button("Save as… notes.txt").click();
await page.getByLabel("File name").fill("Größe 2.txt");
const renamed = await download(button("Save"));
await page.getByLabel("Select notes.txt").check();
await page.getByLabel("Select picture.png").check();
await page.getByText("2 selected").waitFor();
const archive = await download(button("ZIP of the selection"));

// Deletions, which need a confirmation.
const question = page.locator("#confirm");
await button("Delete notes.txt").click();
await question.getByText("Delete notes.txt?").waitFor();
await shot("confirm");
await button("Cancel", question).click();
const spared = await button("Delete notes.txt").isVisible();
await button("Delete notes.txt").click();
await button("Delete", question).click();
await page.getByText("notes.txt: deleted.").waitFor();
await page.setViewportSize({ width: 360, height: 800 });
await page.emulateMedia({ colorScheme: "dark" });
await page.locator("#file-rows").scrollIntoViewIfNeeded();
await shot("narrow");
const isTooWide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
await ask("compare");
await page.getByLabel("Select all").check();
await button("Delete the selection").click();
await button("Delete", question).click();
await page.getByText("No files yet.").waitFor();

// A list that cannot be loaded.
await page.route("**/files?*", (route) => route.abort());
await button("Load newer").click();
await page.getByText("The service cannot be reached").waitFor();
await page.unroute("**/files?*");
await button("Try again").click();
await page.getByText("0 listed.").waitFor();

// Without resumable uploads, a file is sent in one request.
await page.route("**/openapi.json", async (route) => {
  const response = await route.fetch();
  const { paths, ...rest } = await response.json();
  const some = Object.entries(paths).filter(([path]) => !path.startsWith("/uploads"));
  await route.fulfill({ response, json: { ...rest, paths: Object.fromEntries(some) } });
});
await reload();
await page.unroute("**/openapi.json"); // Playwright would intercept the upload, too
sent.length = 0;
await page.throttle(20e6);
await choose("small.bin");
await progress("small.bin", 0.2);
const controls = await row("small.bin").getByRole("button").allTextContents();
await page.throttle(-1);
await row("small.bin").getByText(/^Uploaded/).waitFor();
const plain = { controls, appends: sent.length };

// No upload of this user stays in the browser.
await reload();
await page.throttle(20e6);
await choose("big.bin");
await progress("big.bin", 0.05);
await button("Pause big.bin").click();
await row("big.bin").getByText(/^Paused/).waitFor();
await page.route("**/uploads/*", (route) =>
  route.request().method() === "DELETE" ? route.abort() : route.continue(),
);
await button("Cancel big.bin").click(); // but the upload cannot be deleted
await row("big.bin").getByText(/^Not deleted: /).waitFor();
await button("Discard big.bin").waitFor();
await page.unroute("**/uploads/*");
const before = (await saved()).length;
const second = await open(address.split("#")[0]);
await button("Forget key").click();
for (const each of [page, second]) await each.getByLabel("Enter a key").waitFor();
const left = await page.evaluate(() => localStorage.length);
await browser.close();
console.log(
  JSON.stringify({
    about, gone, unfinished, claims, offsets, kept, width, text, seeked, mixed, starts, renamed, archive, spared,
    isTooWide, plain, before, left, leaks, errors,
  }),
);
process.stdin.destroy(); // exit() could cut the output
