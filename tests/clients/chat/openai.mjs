// npm openai.
import OpenAI from "openai";
import {
  caught, cut, ended, gated, halfway, image, parameters, plan, release, relay, scenario, service, text, texts,
  told, tooled,
} from "./scenarios.mjs";

const client = (address) => new OpenAI({ baseURL: `${address}/v1`, apiKey: "none", maxRetries: 0 });
const direct = client(service);
const ask = (openai, { user }, more = {}, key = undefined) =>
  openai.chat.completions.create(
    { model: "echo", messages: [{ role: "user", content: user }], stream: true, ...more },
    { headers: key && { "Idempotency-Key": key } },
  );

async function read(stream, seen = () => {}) {
  const found = { pieces: [], finish: null, usage: null };
  for await (const { choices, usage } of await stream) {
    const [choice] = choices;
    if (choice?.delta.content) found.pieces.push(choice.delta.content);
    found.finish ??= choice?.finish_reason ?? null;
    found.usage ??= usage ?? null;
    await seen(found.pieces);
  }
  return found;
}

await scenario("stream", async () => {
  const stream = ask(direct, plan({ pieces: texts }), { stream_options: { include_usage: true } });
  const { pieces, finish, usage } = await read(stream);
  return [pieces.join("") === text, finish, usage.total_tokens > 0];
});
await scenario("whole", async () => {
  const answer = await ask(direct, plan({ pieces: texts }), { stream: false });
  const [{ message, finish_reason }] = answer.choices;
  return [message.content === text, finish_reason, answer.usage.total_tokens > 0];
});
await scenario("tools", async () => {
  const script = tooled();
  const parts = [{ type: "text", text: script.user }, { type: "image_url", image_url: { url: image } }];
  const answer = direct.chat.completions.stream({
    model: "echo", messages: [{ role: "user", content: parts }],
    tools: [{ type: "function", function: { name: "weather", parameters } }],
  });
  const [{ finish_reason, message }] = (await answer.finalChatCompletion()).choices;
  const [call] = message.tool_calls;
  const { asked } = await told(script);
  return [message.content, finish_reason, call.id, call.function.name, call.function.arguments, asked];
});
await scenario("stop", async () => {
  const script = gated();
  const stream = await ask(direct, script);
  await read(stream, halfway(() => stream.controller.abort()));
  return (await ended(script)).ended;
});
await scenario("error", async () => {
  const pieces = [];
  const stream = ask(direct, plan({ pieces: ["one ", "two "], error: "The model is busy." }));
  const error = await caught(read(stream, (found) => pieces.splice(0, 9, ...found)));
  return [pieces.join(""), error?.constructor.name, error?.message];
});
await scenario("failed", async () => {
  const script = plan({ pieces: ["one "], error: "The model is busy." });
  const error = await caught(ask(direct, script, { stream: false }));
  return [error.status, error.message.includes("The model is busy.")];
});
await scenario("cut", async () => {
  const script = gated();
  const stream = ask(client(relay), script, {}, script.name);
  const error = await caught(read(stream, halfway(cut)));
  const again = ask(client(relay), script, {}, script.name);
  const { pieces, finish } = await read(again, halfway(() => release(script)));
  return [error !== null, pieces.join(""), finish, (await told(script)).started];
});
await scenario("again", async () => {
  const script = plan({ pieces: ["one"] });
  const answers = await Promise.all([1, 2].map(() => read(ask(direct, script, {}, script.name))));
  answers.push(await read(ask(direct, script, {}, script.name)));
  return [...answers.map(({ pieces }) => pieces.join("")), (await told(script)).started];
});
await scenario("models", async () => {
  for await (const { id } of await direct.models.list()) return typeof id;
});
