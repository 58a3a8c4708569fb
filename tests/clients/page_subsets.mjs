// The demo page of several services: page_subsets.mjs CHROMIUM FOLDER SERVICES; prints the panels
// and problems of each of them. SERVICES is JSON: an address by name, which may have a key.
import { chromium } from "playwright-core";
import { isTooWide, listed, tryErrors, watched } from "./watched.mjs";

const [executablePath, folder, services] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

/** The part of the rows of panels that no panel covers, at most. */
const largestHole = () => {
  const holes = [...document.querySelectorAll(".row, #gallery")].map((row) => {
    const area = ({ width, height }) => width * height;
    const whole = area(row.getBoundingClientRect());
    if (row.matches(".panel") || !whole) return 0;
    const gaps = 16 * (row.clientWidth + 2 * row.clientHeight);
    const panels = [...row.querySelectorAll(".panel")];
    const covered = panels.reduce((sum, each) => sum + area(each.getBoundingClientRect()), 0);
    return Math.max(0, whole - covered - gaps) / whole;
  });
  return Math.max(...holes);
};

const shown = {};
for (const [name, address] of Object.entries(JSON.parse(services))) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const failing = [];
  const { page, problems } = await watched(context, address, (...each) => listed(failing)(...each));
  await page.locator("#gallery").waitFor();
  const hole = await page.evaluate(largestHole);
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width: 1280, height });
  await page.screenshot({ path: `${folder}/${name}.png` });
  const entries = await page.locator("#cases .hint").allTextContents();
  failing.push(...entries.map((each) => each.split(" ")[1]));
  const different = await tryErrors(page);
  await page.setViewportSize({ width: 360, height: 740 });
  const panels = await page.locator(".panel:visible h2").allTextContents();
  const isWide = await isTooWide(page);
  shown[name] = { panels, problems, different, isTooWide: isWide, hole: hole > 0.02 };
  await context.close();
}
await browser.close();
console.log(JSON.stringify(shown));
