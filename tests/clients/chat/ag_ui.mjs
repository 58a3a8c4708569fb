// npm @ag-ui/client.
import { HttpAgent } from "@ag-ui/client";
import {
  cut, ended, gated, halfway, image, parameters, plan, release, relay, scenario, service, text, texts, told,
  tooled,
} from "./scenarios.mjs";

// The client throws the error of a lost connection twice, and catches it once.
process.on("unhandledRejection", () => {});
const warnings = [];
console.warn = (...words) => warnings.push(words.join(" "));

/** Run an agent; return its events, its errors and its new messages. */
async function ask(address, { name, user }, { seen = () => {}, key, parts = [], ...more } = {}) {
  const content = parts.length ? [{ type: "text", text: user }, ...parts] : user;
  const agent = new HttpAgent({
    url: `${address}/ag-ui`, threadId: name, headers: key && { "Idempotency-Key": key },
    initialMessages: [{ id: "1", role: "user", content }],
  });
  const found = { pieces: [], types: [], error: null, failed: null };
  await agent.runAgent({ runId: name, ...more }, {
    onEvent: ({ event }) => void found.types.push(event.type),
    onTextMessageContentEvent: async ({ event }) => {
      found.pieces.push(event.delta);
      await seen(found.pieces, agent);
    },
    onRunErrorEvent: ({ event }) => void (found.error = event),
  }).catch((error) => (found.failed = error));
  found.messages = agent.messages.filter(({ id }) => id !== "1");
  found.whole = found.messages.map(({ content }) => content).join("");
  return found;
}

await scenario("stream", async () => {
  const { pieces, types, whole } = await ask(service, plan({ pieces: texts }));
  return [pieces.join("") === text, whole === text, types[0], types.at(-1), warnings];
});
await scenario("tools", async () => {
  const script = tooled(
    { type: "tool_result", id: "call_1", result: { degrees: -4 } }, { type: "text", text: "Cold." },
  );
  const source = { type: "data", value: image.split(",")[1], mimeType: "image/png" };
  const { messages } = await ask(service, script, {
    parts: [{ type: "image", source }],
    tools: [{ name: "weather", description: "The weather.", parameters }],
  });
  const shown = messages.map(({ role, content, toolCalls }) => [
    role, content ?? "", ...(toolCalls ?? []).map((call) => call.function.arguments),
  ]);
  return [shown, (await told(script)).asked, warnings];
});
await scenario("stop", async () => {
  const script = gated();
  const stop = (pieces, agent) => halfway(() => agent.abortRun())(pieces);
  const { error } = await ask(service, script, { seen: stop });
  return [error.code, (await ended(script)).ended];
});
await scenario("error", async () => {
  const script = plan({ pieces: ["one ", "two "], error: "The model is busy." });
  const { whole, error, types } = await ask(service, script);
  return [whole, error.message, error.code, types.at(-1)];
});
await scenario("cut", async () => {
  const script = gated();
  const key = script.name;
  const { failed } = await ask(relay, script, { key, seen: halfway(cut) });
  const { whole, types } = await ask(relay, script, {
    key, seen: halfway(() => release(script)),
  });
  return [failed !== null, whole, types.at(-1), (await told(script)).started];
});
await scenario("again", async () => {
  const script = plan({ pieces: ["one"] });
  const same = { key: script.name };
  const answers = await Promise.all([ask(service, script, same), ask(service, script, same)]);
  answers.push(await ask(service, script, same));
  return [...answers.map(({ whole }) => whole), (await told(script)).started];
});
