// The chat on the demo page: chat_page.mjs CHROMIUM ADDRESS FOLDER; prints the visible results.
// The service repeats messages. The address may contain a key. Screenshots go to the folder.
import { chromium } from "playwright-core";

const [executablePath, address, folder] = process.argv.slice(2);
const LONG = "Grüße <b>& 🦊</b> next\u2028line, then\u0085another one.\n  ".repeat(9).trim();
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const context = await browser.newContext();
const errors = [];
const started = []; // the id of each run, and whether it was new

async function open(url = address.split("#")[0]) {
  const page = await context.newPage();
  page.on("pageerror", (error) => errors.push(String(error)));
  // Chromium logs the requests that this script makes fail.
  page.on("console", (each) => /413|503|ERR_FAILED/.test(each.text()) || errors.push(each.text()));
  page.on("response", async (response) => {
    if (!/\/runs\/chat\?/.test(response.url()) || !response.ok()) return;
    started.push([(await response.json().catch(() => ({}))).id, response.status()]);
  });
  await page.goto(url);
  await field(page).waitFor();
  return page;
}

const field = (page) => page.getByLabel("Your message");
const status = (page, words) => page.locator("#chat-status").getByText(words).waitFor();
const replies = (page) => page.locator("#chat-log .assistant > span:last-child").allTextContents();
const transcript = (page) => page.locator("#chat-log").innerText();
const focused = (page) => page.evaluate(() => document.activeElement.id);
const partly = (page) => page.waitForFunction(() => {
  const reply = document.querySelector("#chat-log li:last-child > span:last-child").textContent;
  return reply.length > 60 && reply.length < 400;
});

async function send(page, text) {
  await field(page).fill(text);
  await field(page).press("Enter");
  await status(page, /Sending|Replying/);
}

// The reply continues after a reload, and in another tab. A second click sends nothing.
const shown = {};
const one = await open(address);
await field(one).fill(LONG);
await one.getByRole("button", { name: "Send" }).dblclick();
await partly(one);
const two = await open();
await one.reload();
await Promise.all([status(one, "Complete."), status(two, "Complete.")]);
shown.exact = [...(await replies(one)), ...(await replies(two))].map((each) => each === LONG);
shown.once = started.map(([, code]) => code);

// Enter sends, and with Shift it begins a line.
await field(two).focus();
for (const key of ["a", "Shift+Enter", "b", "Enter"]) await two.keyboard.press(key);
await status(two, "Complete.");
shown.keys = (await replies(two)).at(-1);
shown.focus = [await focused(two)];

// It stops in both tabs.
await send(two, LONG);
await partly(two);
await two.getByRole("button", { name: "Stop the reply" }).click();
await Promise.all([status(one, "Stopped."), status(two, "Stopped.")]);
const part = (await replies(two)).at(-1);
shown.stopped = part.length > 0 && part !== LONG && LONG.startsWith(part);
shown.focus.push(await focused(two));
const before = await transcript(two);
await two.reload();
await two.getByText("Assistant · Stopped.").waitFor();
shown.same = [await transcript(one), await transcript(two)].map((each) => each === before);
await one.screenshot({ path: `${folder}/chat.png`, fullPage: true });

// It ends while no tab is open.
await send(two, LONG);
await partly(two);
const conversation = await two.evaluate(() => JSON.parse({ ...localStorage }[`chat of /`]));
const headers = await two.evaluate(() => {
  const key = localStorage.getItem("key of /");
  return key ? { Authorization: `Bearer ${key}` } : {};
});
await Promise.all([one.close(), two.close()]);
const { origin } = new URL(address);
await context.request.get(`${origin}/runs/${conversation.run}/events`, { headers });
const late = await open();
await status(late, "Complete.");
shown.late = (await replies(late)).at(-1) === LONG;

// The response to the message is lost, once before a retry and once before a reload, after which the
// page finds the active run of the conversation. A service that drains refuses to send the events.
for (const isReloaded of [false, true]) {
  const count = started.length;
  await late.route(/\/runs\/chat\?/, async (route) => {
    const { id } = await (await route.fetch()).json();
    started.push([id, "lost"]);
    await route.abort();
  }, { times: 1 });
  await late.route(/\/runs\/.*\/events/, (route) => route.fulfill({ status: 503 }), { times: 1 });
  await field(late).fill(LONG);
  await field(late).press("Enter");
  await status(late, "trying again");
  if (isReloaded) await late.reload();
  await status(late, "Complete.");
  const [run] = started[count];
  shown[isReloaded ? "reloaded" : "retried"] = [
    (await replies(late)).at(-1) === LONG,
    started.slice(count).every(([id]) => id === run),
    started.slice(count).map(([, code]) => code),
  ];
}

// A refused message returns to the field.
await late.getByRole("button", { name: "New conversation" }).click();
shown.empty = await late.locator("#chat-log li").count();
await field(late).fill("x".repeat(100_000));
await field(late).press("Enter");
await status(late, /^Not sent: .*HTTP 413/);
shown.returned = (await field(late).inputValue()).length;

// Events of other models: reasoning, calls of tools, a reset, and a failure.
const event = (type, data) => `event: ${type}\nid: 0-1\ndata: ${JSON.stringify(data)}\n\n`;
const plain = (text) => `id: 0-1\ndata: ${text}\n\n`;
const body = [
  event("message", { type: "text", text: "discarded" }),
  event("reset", { reason: "evicted" }),
  event("message", { type: "reasoning", text: "First <i>this</i>, " }),
  event("message", { type: "reasoning", text: "then that." }),
  event("message", { type: "tool_call", id: "1", name: "weather", arguments: '{"city": ' }),
  event("message", { type: "tool_call", id: "1", name: "", arguments: '"Bonn"}' }),
  event("message", { type: "tool_result", id: "1", result: { degrees: 12 } }),
  event("message", { type: "text", text: "It is" }),
  plain(" cold: "),
  plain("12"),
  event("end", { status: "failed", problem: { title: "Bad gateway", status: 502 } }),
].join("");
await late.route(/\/runs\/.*\/events/, (route) =>
  route.fulfill({ contentType: "text/event-stream", body }));
await field(late).fill("weather");
await field(late).press("Enter");
await late.getByText("Assistant · Failed: Bad gateway (HTTP 502).").waitFor();
const details = await late.locator("#chat-log summary").all();
for (const each of details) await each.click();
shown.parts = await late.locator("#chat-log .assistant > *").allTextContents();
await late.setViewportSize({ width: 390, height: 844 });
await late.emulateMedia({ colorScheme: "dark" });
await late.screenshot({ path: `${folder}/chat-phone.png`, fullPage: true });
shown.isTooWide = await late.evaluate(() => document.documentElement.scrollWidth > innerWidth);

// The conversation of another principal is not shown, and it is deleted with the key.
await late.evaluate(() => {
  const stored = localStorage.getItem("chat of /");
  localStorage.setItem("chat of /", stored.replace(/"owner":"[^"]*"/, '"owner":"other"'));
});
await late.reload();
await late.waitForFunction(() => !localStorage.getItem("chat of /").includes("other"));
shown.others = await late.locator("#chat-log li").count();
if (address.includes("#")) {
  await late.getByRole("button", { name: "Forget key" }).click();
  await late.getByLabel("Enter a key").waitFor();
}
shown.stored = await late.evaluate(() => Object.keys(localStorage));
await browser.close();
console.log(JSON.stringify({ ...shown, errors }));
