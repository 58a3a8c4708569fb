// Chromium runs the function `follow` of a page of the documentation, in a file:
// follow_browser.mjs CHROMIUM SERVICE FILE COUNT POSITION ARGUMENT…; prints COUNT events as JSON.
// Every second request for a path gets 503, as from a proxy while a service restarts.
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

setTimeout(() => process.exit(1), 80_000).unref();
const [executablePath, service, file, count, position, ...first] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
// A page of the same origin, because those of the service may forbid connections.
const blank = `${service}/blank`;
await page.route(blank, (route) => route.fulfill({ contentType: "text/html", body: "" }));
await page.goto(blank);
let refusals = 0;
const refused = new Set();
await page.route(/\/(tickets|topics)\b/, (route) => {
  const { pathname } = new URL(route.request().url());
  if (refused.delete(pathname)) return route.continue();
  refused.add(pathname);
  refusals++;
  return route.fulfill({ status: 503 });
});
await page.addScriptTag({ content: await readFile(file, "utf8") });
const events = await page.evaluate(
  ({ first, position, count }) =>
    new Promise((resolve) => {
      const wait = setTimeout;
      window.setTimeout = (call, delay, ...rest) => wait(call, delay / 100, ...rest);
      const events = [];
      const keep = ({ lastEventId, data }) => {
        events.push([lastEventId, data]);
        if (events.length === count) resolve(events);
      };
      window.follow(...first, keep, position);
    }),
  { first, position, count: Number(count) },
);
await browser.close();
console.log(JSON.stringify({ events, refusals }));
