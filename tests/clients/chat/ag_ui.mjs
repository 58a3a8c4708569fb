// npm @ag-ui/client.
import { HttpAgent } from "@ag-ui/client";
import { caught, cut, ended, gated, plan, release, relay, scenario, service, text, texts, told }
  from "./scenarios.mjs";

// The client throws the error of a lost connection twice, and catches it once.
process.on("unhandledRejection", () => {});
const warnings = [];
console.warn = (...words) => warnings.push(words.join(" "));

/** Run an agent; return the texts of its new messages, and what it has reported. */
async function ask(address, script, seen = () => {}, runId = script.name) {
  const agent = new HttpAgent({
    url: `${address}/ag-ui`, threadId: script.name,
    initialMessages: [{ id: "1", role: "user", content: script.user }],
  });
  const found = { pieces: [], types: [], error: null, code: null, failed: null, whole: null, agent };
  await agent.runAgent({ runId }, {
    onEvent: ({ event }) => void found.types.push(event.type),
    onTextMessageContentEvent: async ({ event }) => {
      found.pieces.push(event.delta);
      await seen(found.pieces.length, agent);
    },
    onRunErrorEvent: ({ event }) => {
      found.error = event.message;
      found.code = event.code;
    },
    onRunFailed: ({ error }) => {
      found.failed = error;
      return { stopPropagation: true };
    },
  }).catch((error) => (found.failed = error));
  found.whole = agent.messages.filter(({ id }) => id !== "1").map(({ content }) => content).join("");
  return found;
}

await scenario("stream", async () => {
  const { pieces, types, whole } = await ask(service, plan({ pieces: texts }));
  return [pieces.join("") === text, whole === text, types[0], types.at(-1), warnings];
});
await scenario("stop", async () => {
  const script = gated();
  const { code } = await ask(service, script, (count, agent) => count === 2 && agent.abortRun());
  return [code, (await told(script)).started];
});
await scenario("error", async () => {
  const script = plan({ pieces: ["one ", "two "], error: "The model is busy." });
  const { whole, error, types } = await ask(service, script);
  return [whole, error, types.at(-1)];
});
await scenario("cut", async () => {
  const script = gated();
  const { failed } = await ask(relay, script, (count) => count === 2 && cut());
  const { whole, types } = await ask(relay, script, (count) => count === 2 && release(script));
  return [failed !== null, whole, types.at(-1), (await told(script)).started];
});
await scenario("again", async () => {
  const script = plan({ pieces: ["one"] });
  const answers = await Promise.all([ask(service, script), ask(service, script)]);
  answers.push(await ask(service, script));
  return [...answers.map(({ whole }) => whole), (await told(script)).started];
});
