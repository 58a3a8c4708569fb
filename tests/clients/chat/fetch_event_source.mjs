// npm @microsoft/fetch-event-source in Chromium.
import { chromium } from "playwright-core";
import { cut, gated, halfway, more, plan, release, relay, scenario, service, start, text, texts, told }
  from "./scenarios.mjs";

const [executablePath, page] = more;
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const tab = await browser.newPage();
const errors = [];
tab.on("pageerror", (error) => errors.push(String(error)));
tab.on("console", (message) => {
  if (message.type() !== "info") errors.push(message.text());
});
await tab.goto(`${page}?${new URLSearchParams({ service, id: "events", script: "./page.js" })}`);
await tab.waitForFunction(() => window.fetchEventSource);
await tab.exposeFunction("seen", (name, what) => hooks.get(name)?.(what));
const hooks = new Map();

/** Follow a run to its end, or to the response 204; return what the client reports. */
function follow(address, run, seen = () => {}, headers = {}) {
  hooks.set(run, seen);
  return tab.evaluate(
    async ({ url, run, headers }) => {
      const found = { pieces: [], end: null, opened: [], empty: 0, failures: 0, last: "" };
      const stop = new AbortController();
      await window.fetchEventSource(url, {
        headers,
        signal: stop.signal,
        onopen: ({ status }) => {
          found.opened.push(status);
          if (status === 204) stop.abort(); // Otherwise it asks again, every second.
          window.seen(`${run} opened`, found.opened.length);
        },
        onmessage: ({ event, data, id }) => {
          found.last = id || found.last;
          if (event === "end") found.end = JSON.parse(data);
          else if (!data) found.empty++;
          else found.pieces.push(JSON.parse(data).text ?? "");
          window.seen(run, found.pieces);
        },
        onerror: () => void found.failures++,
      });
      return found;
    },
    { url: `${address}/runs/${run}/events`, run, headers },
  );
}

await scenario("stream", async () => {
  const { pieces, end, empty } = await follow(service, await start(plan({ pieces: texts })));
  return [pieces.join("") === text, end.status, empty];
});
await scenario("error", async () => {
  const answer = plan({ pieces: ["one ", "two "], error: "The model is busy." });
  const { pieces, end } = await follow(service, await start(answer));
  return [pieces.join(""), end.status, end.problem.detail];
});
await scenario("stop", async () => {
  const run = await start(gated());
  const { pieces, end } = await follow(service, run, halfway(() => {
    fetch(`${service}/runs/${run}/stop`, { method: "POST" });
  }));
  return [pieces.join(""), end.status];
});
// The run is over, so there is nothing after its last event.
await scenario("ended", async () => {
  const run = await start(plan({ pieces: ["one"] }));
  const { last } = await follow(service, run);
  const { opened, pieces } = await follow(service, run, undefined, { "last-event-id": last });
  return [opened, pieces, errors];
});
await scenario("cut", async () => {
  const answer = gated();
  const run = await start(answer);
  hooks.set(`${run} opened`, (opens) => opens === 2 && release(answer));
  const { pieces, end, failures } = await follow(relay, run, halfway(cut));
  return [pieces.join(""), end.status, failures > 0, (await told(answer)).started];
});
await browser.close();
