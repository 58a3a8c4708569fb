// npm @langchain/openai.
import { ChatOpenAI } from "@langchain/openai";
import {
  caught, cut, ended, gated, halfway, image, parameters, plan, release, relay, scenario, service, text, texts,
  told, tooled,
} from "./scenarios.mjs";

const model = (address, key) =>
  new ChatOpenAI({
    model: "echo", apiKey: "none", maxRetries: 0,
    configuration: {
      baseURL: `${address}/v1`, defaultHeaders: key && { "Idempotency-Key": key },
    },
  });

async function read(stream, seen = () => {}) {
  const found = { pieces: [], whole: null };
  for await (const piece of await stream) {
    if (piece.content) found.pieces.push(piece.content);
    found.whole = found.whole ? found.whole.concat(piece) : piece;
    await seen(found.pieces);
  }
  return found;
}

await scenario("stream", async () => {
  const { pieces, whole } = await read(model(service).stream(plan({ pieces: texts }).user));
  const { finish_reason } = whole.response_metadata;
  return [pieces.join("") === text, finish_reason, whole.usage_metadata.total_tokens > 0];
});
await scenario("whole", async () => {
  const answer = await model(service).invoke(plan({ pieces: texts }).user);
  const { finish_reason } = answer.response_metadata;
  return [answer.content === text, finish_reason, answer.usage_metadata.total_tokens > 0];
});
await scenario("tools", async () => {
  const script = tooled();
  const parts = [{ type: "text", text: script.user }, { type: "image_url", image_url: { url: image } }];
  const tools = [{ type: "function", function: { name: "weather", parameters } }];
  const messages = [{ role: "user", content: parts }];
  const { whole } = await read(model(service).bindTools(tools).stream(messages));
  const [{ id, name, args }] = whole.tool_calls;
  const { finish_reason } = whole.response_metadata;
  return [whole.content, finish_reason, id, name, args, (await told(script)).asked];
});
await scenario("stop", async () => {
  const script = gated();
  const stop = new AbortController();
  const stream = model(service).stream(script.user, { signal: stop.signal });
  await caught(read(stream, halfway(() => stop.abort())));
  return (await ended(script)).ended;
});
await scenario("error", async () => {
  const pieces = [];
  const stream = model(service).stream(
    plan({ pieces: ["one ", "two "], error: "The model is busy." }).user,
  );
  const error = await caught(read(stream, (found) => pieces.splice(0, 9, ...found)));
  return [pieces.join(""), error?.message];
});
await scenario("cut", async () => {
  const script = gated();
  const stream = model(relay, script.name).stream(script.user);
  const error = await caught(read(stream, halfway(cut)));
  const again = model(relay, script.name).stream(script.user);
  const { pieces } = await read(again, halfway(() => release(script)));
  return [error !== null, pieces.join(""), (await told(script)).started];
});
await scenario("again", async () => {
  const script = plan({ pieces: ["one"] });
  const ask = () => read(model(service, script.name).stream(script.user));
  const answers = await Promise.all([ask(), ask()]);
  answers.push(await ask());
  return [...answers.map(({ pieces }) => pieces.join("")), (await told(script)).started];
});
