// Two tabs with the demo page: demo_page.mjs CHROMIUM ADDRESS FOLDER; prints the visible results.
// The address may contain a key, which must not appear in any URL. Screenshots go to the folder.
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

const [executablePath, address, folder] = process.argv.slice(2);
const key = new URL(address).hash.replace("#key=", "");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const context = await browser.newContext();
const errors = [];
const leaks = [];

async function open(address) {
  const page = await context.newPage();
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => errors.push(message.text()));
  page.streams = new Set(); // the open streams
  page.on("request", (one) => {
    if (/events\?last_event_id/.test(one.url())) page.streams.add(one);
    if (key && one.url().includes(key)) leaks.push(one.url());
  });
  page.on("requestfinished", (one) => page.streams.delete(one));
  page.on("requestfailed", (one) => page.streams.delete(one));
  await page.goto(address);
  await page.getByText(/^Live/).waitFor();
  if (key && page.url().includes("key")) leaks.push(page.url());
  return page;
}

async function publish(page, topic, text) {
  await page.getByLabel("To topic").fill(topic);
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.getByRole("button", { name: "Publish", exact: true }).click();
  await page.getByText(`Published to ${topic}`).waitFor();
}

// The second tab has the key of the first one.
const [one, other] = [await open(address), await open(address.split("#")[0])];
await one.getByLabel("Topics to watch").fill("a,b");
await one.getByRole("button", { name: "Watch" }).click();
await one.getByText("Watching: a, b").waitFor();
await publish(other, "a", "first");
await publish(other, "b", "second");
await one.getByRole("log").getByText("second").waitFor();
const messages = await one.locator(".message > :last-child").allTextContents();

const file = { name: "<b>new & old.txt", mimeType: "text/plain", buffer: Buffer.from("content") };
await other.locator("input[type=file]").setInputFiles(file);
const link = one.getByRole("link", { name: `Download ${file.name}` });
await link.waitFor();
const streams = [...one.streams].map((each) => new URL(each.url()).pathname);

async function download(control) {
  const [found] = await Promise.all([one.waitForEvent("download"), control.click()]);
  return readFile(await found.path(), "latin1");
}

const content = await download(link);
await one.getByLabel("Select all").check();
const zip = one.getByRole("button", { name: "ZIP of the selection" });
const isZip = (await download(zip)).startsWith("PK");

await one.screenshot({ path: `${folder}/desktop.png`, fullPage: true });
await other.setViewportSize({ width: 390, height: 844 });
await other.screenshot({ path: `${folder}/phone.png`, fullPage: true });
const isTooWide = await other.evaluate(() => document.documentElement.scrollWidth > innerWidth);

await other.getByRole("button", { name: `Delete ${file.name}` }).click();
await other.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
await one.getByText("deleted. 0 listed.").waitFor();

// The second click must not stop the run.
await one.getByRole("button", { name: "Start" }).dblclick();
await one.getByText("1 of 10").waitFor();
await one.reload();
await one.getByText("2 of 10").waitFor();
await one.getByRole("button", { name: "Stop" }).click();
await one.getByText("Stopped.").waitFor();
const history = await one.evaluate(() => window.history.length);
await browser.close();
console.log(
  JSON.stringify({ messages, streams, content, isZip, isTooWide, history, leaks, errors }),
);
