// Uppy in Chromium: uppy.mjs CHROMIUM PAGE SERVICE FILE FOLDER; SIGTERM closes the page.
// FILE may be a folder of files, which are chosen together.
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core"; // 1.60 runs on Node 18, which Debian 12 has

const [executablePath, address, service, file, folder] = process.argv.slice(2);
const isFolder = statSync(file).isDirectory();
const files = isFolder ? readdirSync(file).map((each) => join(file, each)) : [file];
const closed = new Promise((resolve) => process.on("SIGTERM", () => resolve("closed")));
const browser = await chromium.launchPersistentContext(folder, {
  executablePath,
  args: ["--no-sandbox"], // root, whom containers run as, has none
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
await browser.close(); // in good order: what the page remembers is on the disk
process.exit(title === "done" ? 0 : 1);
