// Chromium opens URLs as tabs: tab.mjs CHROMIUM ADDRESS…; prints what each of them shows.
import { chromium } from "playwright-core";

const [executablePath, ...addresses] = process.argv.slice(2);
const args = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"];
const browser = await chromium.launch({ executablePath, args });

async function shownBy(page, address) {
  const download = page.waitForEvent("download").then(() => "download");
  // The viewer of PDF is an extension.
  const viewer = page.waitForRequest(/^chrome-extension:/).then(() => "pdf");
  const opened = page.goto(address).then(() => "page");
  for (const each of [download, viewer, opened]) each.catch(() => {});
  if ((await Promise.any([download, opened])) === "download") return "download";
  if ((await page.evaluate(() => document.contentType)) === "application/pdf") return viewer;
  return page.evaluate(async () => {
    const [image] = document.images;
    if (image) return image.naturalWidth ? "image" : "no image";
    const media = document.querySelector("video, audio");
    if (!media) return document.body.innerText;
    for (let tries = 0; tries < 100 && !media.currentTime; tries++)
      await new Promise((resume) => setTimeout(resume, 100));
    return media.currentTime ? "plays" : "does not play";
  });
}

const shown = [];
for (const address of addresses) {
  const page = await browser.newPage();
  shown.push(await shownBy(page, address));
  await page.close();
}
await browser.close();
console.log(JSON.stringify({ shown }));
