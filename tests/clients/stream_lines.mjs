// The demo page in Chromium: stream_lines.mjs CHROMIUM SERVICE; prints the lines that it finds in two
// chunks, for all places of the cut, and an event with the line ends of Unicode in its data.
import { chromium } from "playwright-core";

const [executablePath, service] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
await page.goto(service);
const body = "data: a\u2028b\u0085c\r\ndata: d\rid: 7\n\n";
const headers = { "Content-Type": "text/event-stream" };
await page.route("**/odd", (route) => route.fulfill({ headers, body }));
const results = await page.evaluate(async () => {
  const { lines, subscribe } = await import("/web/stream.js");
  const bytes = new TextEncoder().encode("a\r\nb\u2028\rc\n\rd\r\r\n\né\r");
  const splits = new Set();
  for (let cut = 0; cut <= bytes.length; cut++) {
    const source = new ReadableStream({
      start(controller) {
        for (const part of [bytes.slice(0, cut), bytes.slice(cut)]) controller.enqueue(part);
        controller.close();
      },
    });
    const found = [];
    for await (const line of lines(source)) found.push(line);
    splits.add(JSON.stringify(found));
  }
  const stop = new AbortController();
  const event = await new Promise((resolve) => {
    const onevent = (...event) => resolve(event);
    subscribe(() => "/odd", "", { signal: stop.signal, onevent, onstate() {} });
  });
  stop.abort();
  return { splits: [...splits].map(JSON.parse), event };
});
await browser.close();
console.log(JSON.stringify(results));
