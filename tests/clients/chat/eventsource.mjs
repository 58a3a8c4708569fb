// npm eventsource.
import { EventSource } from "eventsource";
import { cut, gated, halfway, plan, release, relay, scenario, service, start, text, texts, told }
  from "./scenarios.mjs";

/** Follow a run until the client closes; return its texts, and how it has ended. */
const follow = (address, run, { seen = () => {}, opened = () => {}, closes = true } = {}) =>
  new Promise((resolve) => {
    const found = { pieces: [], end: null, opens: 0 };
    const source = new EventSource(`${address}/runs/${run}/events`);
    source.onopen = () => opened(++found.opens);
    source.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (event.type !== "text") return;
      found.pieces.push(event.text);
      seen(found.pieces);
    };
    source.addEventListener("end", ({ data }) => {
      found.end = JSON.parse(data);
      if (!closes) return;
      source.close();
      resolve(found);
    });
    source.onerror = () => source.readyState === EventSource.CLOSED && resolve(found);
  });

await scenario("stream", async () => {
  const { pieces, end } = await follow(service, await start(plan({ pieces: texts })));
  return [pieces.join("") === text, end.status];
});
await scenario("error", async () => {
  const script = plan({ pieces: ["one ", "two "], error: "The model is busy." });
  const { pieces, end } = await follow(service, await start(script));
  return [pieces.join(""), end.status, end.problem.detail];
});
await scenario("stop", async () => {
  const run = await start(gated());
  const stop = halfway(() => fetch(`${service}/runs/${run}/stop`, { method: "POST" }));
  const { pieces, end } = await follow(service, run, { seen: stop });
  return [pieces.join(""), end.status];
});
await scenario("cut", async () => {
  const script = gated();
  const run = await start(script);
  const { pieces, end } = await follow(relay, run, {
    seen: halfway(cut),
    opened: (opens) => opens === 2 && release(script),
  });
  return [pieces.join(""), end.status, (await told(script)).started];
});
// It reconnects when the response has ended, and closes when there is nothing left to read.
await scenario("ended", async () => {
  const { pieces, end, opens } = await follow(service, await start(plan({ pieces: ["one"] })), {
    closes: false,
  });
  return [pieces, end.status, opens];
});
