// Chromium: eventsource_browser.mjs CHROMIUM ADDRESS COUNT; prints each event as a line of JSON.
import { chromium } from "playwright-core";

const [executablePath, address, count] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
// A page of the same origin, because those of the service may be missing or forbid connections.
const blank = new URL("/blank", address).href;
await page.route(blank, (route) => route.fulfill({ contentType: "text/html", body: "" }));
await page.goto(blank);
const follow = ({ address, count }) =>
  new Promise((resolve) => {
    const source = new EventSource(address);
    const events = [];
    const keep = ({ type, lastEventId, data }) => {
      events.push([type, lastEventId, data]);
      if (events.length === count) {
        source.close();
        resolve(events);
      }
    };
    source.addEventListener("message", keep);
    source.addEventListener("reset", keep);
  });
for (const event of await page.evaluate(follow, { address, count: Number(count) })) {
  console.log(JSON.stringify(event));
}
await browser.close();
