// Chromium downloads URLs: download.mjs CHROMIUM ADDRESS…; prints names and SHA-256 digests.
import { createHash } from "node:crypto";
import { pipeline } from "node:stream/promises";
import { chromium } from "playwright-core";

const [executablePath, ...addresses] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
const saved = [];
for (const address of addresses) {
  const started = page.waitForEvent("download");
  // A download ends the navigation with an error.
  const [download] = await Promise.all([started, page.goto(address).catch(() => {})]);
  const hash = createHash("sha256");
  await pipeline(await download.createReadStream(), hash);
  saved.push([download.suggestedFilename(), hash.digest("hex")]);
}
await browser.close();
console.log(JSON.stringify({ saved }));
