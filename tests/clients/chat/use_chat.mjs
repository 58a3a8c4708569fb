// useChat in Chromium: its script is the last argument.
import { chromium } from "playwright-core";
import {
  cut, ended, gated, image, more, plan, release, relay, scenario, service, text, texts, told, tooled,
} from "./scenarios.mjs";

const [executablePath, page, script] = more;
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const context = await browser.newContext();

/** Open a tab with a conversation. */
async function open(id, address = service) {
  const tab = await context.newPage();
  tab.errors = [];
  tab.on("pageerror", (error) => tab.errors.push(String(error)));
  tab.on("console", (message) => {
    if (message.type() !== "info") tab.errors.push(message.text());
  });
  await tab.goto(`${page}?${new URLSearchParams({ service: address, id, script })}`);
  return loaded(tab);
}

/** Wait for the chat of a tab, which is rendered after the page has been loaded. */
async function loaded(tab) {
  await tab.waitForFunction(() => window.chat);
  return tab;
}
async function reload(tab) {
  await tab.reload();
  return loaded(tab);
}

const say = (tab, { user }, files = []) =>
  tab.evaluate((said) => void window.chat.sendMessage(said), { text: user, files });
const is = (tab, status) => tab.waitForFunction((status) => window.chat.status === status, status);
/** Wait until the last message ends with a text. */
const shows = (tab, end) =>
  tab.waitForFunction((end) => {
    const parts = window.chat.messages.at(-1)?.parts ?? [];
    return parts.some((part) => part.text?.endsWith(end));
  }, end);
/** The texts of the messages after the first one, and the status. */
const seen = (tab) =>
  tab.evaluate(() => {
    const [, ...answers] = window.chat.messages;
    const text = ({ parts }) => parts.map((part) => part.text ?? "").join("");
    return [...answers.map(text), window.chat.status];
  });
const stop = (id) => fetch(`${service}/chat/${id}/stop`, { method: "POST" });

await scenario("stream", async () => {
  const tab = await open("stream");
  await say(tab, plan({ pieces: texts }));
  await shows(tab, texts.at(-1));
  await is(tab, "ready");
  const [answer, status, ...others] = await seen(tab);
  return [answer === text, status, others, tab.errors];
});
await scenario("tools", async () => {
  const answer = tooled(
    { type: "tool_result", id: "call_1", result: { degrees: -4 } }, { type: "text", text: "Cold." },
  );
  const tab = await open("tools");
  await say(tab, answer, [{ type: "file", mediaType: "image/png", url: image }]);
  await shows(tab, "Cold.");
  await is(tab, "ready");
  const parts = await tab.evaluate(() => window.chat.messages.at(-1).parts);
  const shown = parts.map(({ type, text, state, input, output }) => [
    type, text ?? [input, output], state,
  ]);
  return [shown.filter(([type]) => type !== "step-start"), (await told(answer)).asked, tab.errors];
});
// The tool runs in the page, so the message continues after its result.
await scenario("continue", async () => {
  const tab = await open("continue");
  await say(tab, tooled());
  await tab.waitForFunction(() =>
    window.chat.messages.at(-1)?.parts.some(({ state }) => state === "input-available"),
  );
  await is(tab, "ready");
  const { user } = plan({ pieces: ["Cold."] });
  await tab.evaluate(
    (output) => window.chat.addToolOutput({ tool: "weather", toolCallId: "call_1", output }), user,
  );
  await shows(tab, "Cold.");
  await is(tab, "ready");
  const messages = await tab.evaluate(() => window.chat.messages);
  const types = messages.map(({ parts }) => parts.map(({ type }) => type));
  return [types.map((each) => each.filter((type) => type !== "step-start")), tab.errors];
});
await scenario("error", async () => {
  const tab = await open("error");
  await say(tab, plan({ pieces: ["one ", "two "], error: "The model is busy." }));
  await is(tab, "error");
  return [...(await seen(tab)), await tab.evaluate(() => window.chat.error.message), tab.errors];
});
// In two tabs, of which one stops the generation.
await scenario("stop", async () => {
  const answer = gated();
  const one = await open("stop");
  await say(one, answer);
  await shows(one, "two ");
  const other = await open("stop");
  await shows(other, "two ");
  await one.evaluate(() => window.chat.stop());
  await stop("stop");
  await is(one, "ready");
  await is(other, "ready");
  const { ended: how } = await ended(answer);
  return [how, await seen(one), await seen(other), one.errors, other.errors];
});
await scenario("reload", async () => {
  const answer = gated();
  const tab = await open("reload");
  await say(tab, answer);
  await shows(tab, "two ");
  await reload(tab);
  await shows(tab, "two ");
  await is(tab, "streaming");
  await release(answer);
  await shows(tab, "three");
  await is(tab, "ready");
  const first = await seen(tab);
  const [response] = await Promise.all([tab.waitForResponse(/stream$/), reload(tab)]);
  await is(tab, "ready");
  const { started } = await told(answer);
  return [first, response.status(), await seen(tab), started, tab.errors];
});
await scenario("cut", async () => {
  const answer = gated();
  const tab = await open("cut", relay);
  await say(tab, answer);
  await shows(tab, "two ");
  cut();
  await is(tab, "error");
  const errors = tab.errors.filter((error) => !/net::ERR_/.test(error));
  await reload(tab);
  await is(tab, "streaming");
  await release(answer);
  await shows(tab, "three");
  await is(tab, "ready");
  return [await seen(tab), (await told(answer)).started, errors];
});
// Without a reload; not for AI SDK 5, which repeats the text.
await scenario("resume", async () => {
  if (script.includes("5")) return null;
  const answer = gated();
  const tab = await open("resume", relay);
  await say(tab, answer);
  await shows(tab, "two ");
  cut();
  await is(tab, "error");
  const resumed = tab.evaluate(() => window.chat.resumeStream());
  await is(tab, "streaming");
  await release(answer);
  await resumed;
  await is(tab, "ready");
  return [await seen(tab), (await told(answer)).started];
});
await scenario("again", async () => {
  const answer = plan({ pieces: ["one"] });
  const tab = await open("again");
  const [request] = await Promise.all([tab.waitForRequest(/chat$/), say(tab, answer)]);
  await shows(tab, "one"); // It is ready before it has submitted, too.
  await is(tab, "ready");
  await fetch(request.url(), {
    method: "POST", headers: { "Content-Type": "application/json" }, body: request.postData(),
  }).then((response) => response.text());
  return [await seen(tab), (await told(answer)).started, tab.errors];
});
await browser.close();
