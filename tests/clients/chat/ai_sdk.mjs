// npm ai, with @ai-sdk/openai-compatible and @ai-sdk/openai.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, streamText, tool } from "ai";
import {
  caught, cut, ended, gated, halfway, image, parameters, plan, release, relay, scenario, service, text, texts,
  told, tooled,
} from "./scenarios.mjs";

const models = {
  "openai-compatible": (address) =>
    createOpenAICompatible({ name: "us", baseURL: `${address}/v1`, includeUsage: true })("echo"),
  openai: (address) => createOpenAI({ baseURL: `${address}/v1`, apiKey: "none" }).chat("echo"),
};

async function read(stream, seen = () => {}) {
  const found = { pieces: [], finish: null, usage: null, errors: [] };
  for await (const part of stream.fullStream ?? stream.stream) {
    if (part.type === "text-delta") found.pieces.push(part.text);
    if (part.type === "error") found.errors.push(part.error.message ?? part.error);
    if (part.type === "finish") found.finish = part.finishReason;
    if (part.type === "finish") found.usage = part.totalUsage;
    await seen(found.pieces);
  }
  return found;
}

for (const [name, model] of Object.entries(models)) {
  const ask = (address, { user }, more = {}, key = undefined) =>
    streamText({
      model: model(address), prompt: user, maxRetries: 0, onError: () => {},
      headers: key && { "Idempotency-Key": key }, ...more,
    });

  await scenario(`${name} stream`, async () => {
    const { pieces, finish, usage, errors } = await read(ask(service, plan({ pieces: texts })));
    return [pieces.join("") === text, finish, usage.totalTokens > 0, errors];
  });
  await scenario(`${name} whole`, async () => {
    const answer = await generateText({ model: model(service), prompt: plan({ pieces: texts }).user });
    return [answer.text === text, answer.finishReason, answer.usage.totalTokens > 0];
  });
  await scenario(`${name} tools`, async () => {
    const script = tooled();
    const content = [{ type: "text", text: script.user }, { type: "file", mediaType: "image/png", data: image }];
    const answer = streamText({
      model: model(service), messages: [{ role: "user", content }],
      tools: { weather: tool({ inputSchema: jsonSchema(parameters) }) },
    });
    const [{ toolCallId, toolName, input }] = await answer.toolCalls;
    const { asked } = await told(script);
    return [await answer.text, await answer.finishReason, toolCallId, toolName, input, asked];
  });
  await scenario(`${name} stop`, async () => {
    const script = gated();
    const stop = new AbortController();
    const stream = ask(service, script, { abortSignal: stop.signal });
    await read(stream, halfway(() => stop.abort()));
    return (await ended(script)).ended;
  });
  await scenario(`${name} error`, async () => {
    const script = plan({ pieces: ["one ", "two "], error: "The model is busy." });
    const { pieces, errors } = await read(ask(service, script));
    return [pieces.join(""), errors];
  });
  await scenario(`${name} cut`, async () => {
    const script = gated();
    const broken = ask(relay, script, {}, script.name);
    let cuts = 0;
    const lost = await caught(
      read(broken, halfway(() => cuts++ || cut())).then(({ errors }) => {
        if (errors.length) throw errors[0];
      }),
    );
    const again = ask(relay, script, {}, script.name);
    const { pieces, finish } = await read(again, halfway(() => release(script)));
    return [lost !== null, pieces.join(""), finish, (await told(script)).started];
  });
  await scenario(`${name} again`, async () => {
    const script = plan({ pieces: ["one"] });
    const answers = await Promise.all([1, 2].map(() => read(ask(service, script, {}, script.name))));
    answers.push(await read(ask(service, script, {}, script.name)));
    return [...answers.map(({ pieces }) => pieces.join("")), (await told(script)).started];
  });
}
