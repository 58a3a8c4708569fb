// Chromium plays a file and seeks: video.mjs CHROMIUM SERVICE ADDRESS PLACE…, places as parts of 1.
import { chromium } from "playwright-core";

const [executablePath, service, address, ...places] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
const answers = [];
page.on("response", async (response) => {
  if (response.url() !== address) return;
  const { range } = response.request().headers();
  answers.push({ range, status: response.status() });
});
// A page of the service's origin, which alone may load the files.
await page.route(`${service}/player`, (route) =>
  route.fulfill({ contentType: "text/html", body: "<!doctype html><video muted></video>" }),
);
await page.goto(`${service}/player`);
const played = await page.evaluate(
  async ([src, parts]) => {
    const video = document.querySelector("video");
    const happens = (name) =>
      new Promise((resolve, reject) => {
        video.addEventListener(name, resolve, { once: true });
        video.addEventListener("error", () => reject(video.error), { once: true });
      });
    video.src = src;
    await happens("loadedmetadata");
    const reached = [];
    for (const part of parts) {
      const seeked = happens("seeked");
      video.currentTime = part * video.duration;
      await seeked;
      reached.push(video.currentTime / video.duration);
    }
    return { duration: video.duration, reached };
  },
  [address, places.map(Number)],
);
await browser.close();
console.log(JSON.stringify({ ...played, answers }));
