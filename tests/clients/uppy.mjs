// Uppy in Chromium: uppy.mjs CHROMIUM PAGE SERVICE FILE FOLDER; SIGTERM closes the page.
// FILE may be a folder of files, which are selected together.
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core"; // 1.60 supports Node 18 of Debian 12

const [executablePath, address, service, file, folder] = process.argv.slice(2);
const isFolder = statSync(file).isDirectory();
const files = isFolder ? readdirSync(file).map((each) => join(file, each)) : [file];
const closed = new Promise((resolve) => process.on("SIGTERM", () => resolve("closed")));
const browser = await chromium.launchPersistentContext(folder, {
  executablePath,
  args: ["--no-sandbox"], // not available to root in containers
  handleSIGTERM: false,
});
const page = await browser.newPage();
page.on("console", (message) => console.log(message.text()));
await page.goto(`${address}?service=${encodeURIComponent(service)}`);
await page.setInputFiles("input", files);
const ended = page
  .waitForFunction(() => document.title !== "Uppy", null, { timeout: 0 })
  .then(() => page.title());
const title = await Promise.race([ended, closed]);
await page.close();
await browser.close(); // a clean end, so that the state of the page is on the disk
process.exit(title === "done" ? 0 : 1);
