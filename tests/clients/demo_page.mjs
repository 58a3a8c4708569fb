// Two users of the demo page: demo_page.mjs CHROMIUM ADDRESS; prints the visible results.
import { chromium } from "playwright-core";

const [executablePath, address] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const errors = [];

async function open() {
  const page = await browser.newPage();
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => errors.push(message.text()));
  page.streams = new Set(); // the open streams
  page.on("request", (one) => one.resourceType() === "eventsource" && page.streams.add(one));
  page.on("requestfinished", (one) => page.streams.delete(one));
  page.on("requestfailed", (one) => page.streams.delete(one));
  await page.goto(address);
  await page.getByText(/^Live/).waitFor();
  return page;
}

async function publish(page, topic, text) {
  await page.getByLabel("To topic").fill(topic);
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.getByRole("button", { name: "Publish" }).click();
  await page.getByText(`Published to ${topic}`).waitFor();
}

const [one, other] = [await open(), await open()];
await one.getByLabel("Topics to watch").fill("a,b");
await one.getByRole("button", { name: "Watch" }).click();
await one.getByText("Watching: a, b").waitFor();
await publish(other, "a", "first");
await publish(other, "b", "second");
await one.getByRole("log").getByText("second").waitFor();
const messages = await one.locator(".message span:last-child").allTextContents();

const file = { name: "<b>new & old.txt", mimeType: "text/plain", buffer: Buffer.from("content") };
await other.locator("input[type=file]").setInputFiles(file);
await one.getByRole("link", { name: `Download ${file.name}` }).waitFor();
const streams = [...one.streams].map((each) => new URL(each.url()).pathname);

await one.getByRole("button", { name: "Start" }).click();
await one.getByText("1 of 10").waitFor();
await one.reload();
await one.getByText("2 of 10").waitFor();
await one.getByRole("button", { name: "Stop" }).click();
await one.getByText("Stopped.").waitFor();
await browser.close();
console.log(JSON.stringify({ messages, streams, errors }));
