// Chat: a conversation whose replies are runs. The browser stores it, so that all its tabs show it,
// also after a reload. A reply that ends while no tab is open is read when the page is opened again.

import { CHAT, call, post, stored } from "./access.js";
import { $, describe, make, random, report } from "./page.js";
import { LOST, PATIENCE, isTemporary, pause, subscribe } from "./stream.js";

const ENDS = { complete: "Complete.", stopped: "Stopped.", interrupted: "Interrupted." };
const CUTS = { length: "Cut off at the maximum length.", content_filter: "Cut off by a filter." };
const RETRY = 2_000; // milliseconds
let owner = ""; // the principal, without access control empty
let chat = null; // { owner, id, messages }, and { once, run } while the last message has no reply
let source = null; // the AbortController of the reply
let stopping = ""; // the `once` of the reply that the user has stopped

const create = () => ({ owner, id: random(), messages: [] });
const runUrl = (what) => `runs/${encodeURIComponent(chat.run)}/${what}`;
const textOf = ({ parts }) => parts.map(({ label, text }) => (label ? "" : text)).join("");

export function openChat(principal) {
  owner = principal;
  $("chat-form").onsubmit = send;
  $("chat-text").onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    $("chat-form").requestSubmit();
  };
  $("chat-stop").onclick = stop;
  $("chat-new").onclick = () => {
    show(create());
    save();
    $("chat-text").focus();
  };
  addEventListener("storage", ({ key }) => {
    if (key === CHAT || key === null) adopt(load() ?? create()); // removed with the user's key
  });
  show(load() ?? create());
  save(); // replaces the conversation of another principal
}

/** Return the stored conversation, which another tab can have changed. */
function load() {
  const found = stored((storage) => JSON.parse(storage.getItem(CHAT)));
  return found?.owner === owner ? found : null;
}

function save() {
  const refused = stored((storage) => storage.setItem(CHAT, JSON.stringify(chat))) === null;
  if (refused) stored((storage) => storage.removeItem(CHAT)); // too large: never store an old state
}

/** Show the conversation as another tab has changed it. */
function adopt(found) {
  if (JSON.stringify(found) === JSON.stringify(chat)) return;
  const isLonger = found.id === chat.id && found.messages.length > chat.messages.length;
  show(found);
  if (isLonger && !chat.once) announce(chat.messages.at(-1));
}

function show(conversation) {
  source?.abort();
  chat = conversation;
  $("chat-log").replaceChildren();
  chat.messages.forEach((message) => put(message)());
  report("chat-status", "");
  arrange();
  if (chat.once) receive(false);
}

/** Report how a reply has ended, and let screen readers read it as a whole. */
function announce(message) {
  report("chat-status", message.note, message.failed);
  report("chat-spoken", textOf(message));
}

/** Show the buttons that have an effect. "Send" stays: a second click on it must not hit "Stop". */
function arrange() {
  const isAwaited = Boolean(chat.once);
  $("chat-new").hidden = isAwaited || !chat.messages.length;
  $("chat-send").ariaDisabled = isAwaited; // unlike a disabled button it keeps the focus
  if (!isAwaited && document.activeElement === $("chat-stop")) $("chat-send").focus();
  $("chat-stop").hidden = !isAwaited;
}

/** Append a message to the list, and return a function that shows its present state. */
function put(message) {
  const caption = make("span", { className: "hint" });
  const item = make("li", { className: `message ${message.role}` }, caption);
  const box = $("chat-log");
  const isAtEnd = () => box.scrollHeight - box.scrollTop - box.clientHeight < 8;
  let follows = isAtEnd();
  let shown = [];
  let nodes = [];
  const open = (label) => {
    const node = new Text();
    const content = make("span", {}, node);
    const summary = label && make("summary", { className: "hint" }, label);
    item.append(label ? make("details", {}, summary, content) : content);
    return node;
  };
  box.append(item);
  return () => {
    const { role, parts, note, failed } = message;
    follows ||= isAtEnd();
    const about = [role === "user" ? "You" : "Assistant", note !== ENDS.complete && note];
    caption.textContent = about.filter(Boolean).join(" · ");
    caption.classList.toggle("error", Boolean(failed));
    if (shown !== parts) {
      item.replaceChildren(caption);
      [shown, nodes] = [parts, []];
    }
    parts.forEach(({ label, text }, index) => {
      nodes[index] ??= open(label);
      nodes[index].appendData(text.slice(nodes[index].length));
    });
    if (follows) box.scrollTop = box.scrollHeight; // else the user has scrolled back
    follows = false;
  };
}

/** Return an event of a run; data that is not an object is text. */
function parse(data) {
  try {
    const event = JSON.parse(data);
    if (event instanceof Object) return event;
  } catch {} // not JSON
  return { type: "text", text: data };
}

/** Add an event of a run to the parts of a message; all parts but the text have a label. */
function collect(message, { type, id, name, text, arguments: piece = "", result, reason }) {
  const { parts } = message;
  const last = parts.at(-1);
  const started = id !== undefined && parts.find((part) => part.id === id);
  const append = (label, more) => {
    if (last?.label === label) last.text += more;
    else parts.push({ label, text: more });
  };
  if (type === "text") append("", text);
  if (type === "reasoning") append("Reasoning", text);
  if (type === "tool_call" && started) started.text += piece;
  if (type === "tool_call" && !started) parts.push({ id, label: `Call: ${name}`, text: piece });
  if (type === "tool_result") {
    const words = typeof result === "string" ? result : JSON.stringify(result, null, 2);
    const label = started ? started.label.replace("Call", "Result") : `Result: ${id}`;
    parts.push({ label, text: words });
  }
  if (type === "finish") message.note = CUTS[reason];
}

function send(event) {
  event.preventDefault();
  const text = $("chat-text").value;
  if (!text.trim() || chat.once) return;
  const message = { role: "user", parts: [{ label: "", text }] };
  chat.messages.push(message);
  chat.once = random();
  save(); // before the request, so that a reload repeats it with the same key
  put(message)();
  $("chat-log").scrollTop = $("chat-log").scrollHeight;
  $("chat-text").value = "";
  arrange();
  receive(true);
}

async function stop() {
  stopping = chat.once;
  report("chat-status", "Stopping…");
  if (!chat.run) return; // it is stopped as soon as it has an id
  await call(runUrl("stop"), { method: "POST" }).catch((error) =>
    report("chat-status", `Not stopped: ${error.message}.`, true),
  );
}

/** Start the reply and return the id of its run; a repeated request finds the same run. */
async function begin(signal, isNew) {
  const query = new URLSearchParams({ key: chat.id });
  const messages = chat.messages
    .map((message) => ({ role: message.role, content: textOf(message) }))
    .filter(({ content }) => content);
  const headers = { "Idempotency-Key": chat.once };
  for (;;) {
    const limits = { signal: AbortSignal.timeout(PATIENCE) };
    try {
      const active = isNew ? null : await call(`runs?${query}`, limits);
      if (active?.status === 200) return (await active.json()).id;
      return (await post(`runs/chat?${query}`, { messages }, { headers, ...limits })).id;
    } catch (error) {
      if (!isTemporary(error) || stopping === chat.once || signal.aborted) throw error;
      report("chat-status", `${error.message}, trying again…`, true);
      await pause(RETRY);
    }
  }
}

/** Show the reply to the last message, from its beginning to its end, and add it. */
async function receive(isNew) {
  const own = (source = new AbortController());
  const { signal } = own;
  const { once } = chat;
  const message = { role: "assistant", parts: [] };
  const draw = put(message);
  let frame = 0;
  const finish = (words, failed) => {
    if (signal.aborted) return; // it has ended, or another conversation is shown
    own.abort();
    cancelAnimationFrame(frame);
    Object.assign(message, { note: (!failed && message.note) || words, failed });
    draw();
    add(message, once);
  };
  const onevent = (event, data) => {
    if (event === "reset") message.parts = []; // all of it is sent again
    if (event === "message") collect(message, parse(data));
    // One update per frame: a fast reply must not freeze the page.
    if (event !== "end") return (frame ||= requestAnimationFrame(() => draw((frame = 0))));
    const { status, problem } = JSON.parse(data);
    finish(ENDS[status] ?? `Failed: ${describe(problem)}.`, !ENDS[status]);
  };
  const onstate = (isLive) => report("chat-status", isLive ? "Replying…" : LOST, !isLive);
  report("chat-status", "Sending…");
  report("chat-spoken", "");
  draw();
  try {
    const run = chat.run ?? (await begin(signal, isNew));
    if (signal.aborted) return;
    chat.run = run;
    save();
    if (stopping === once) stop();
    const url = (id) => runUrl(`events?${new URLSearchParams(id && { last_event_id: id })}`);
    await subscribe(url, "", { signal, onevent, onstate });
    finish("The reply is no longer stored.", true);
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401) report("chat-status", `${error.message}.`, true);
    else if (chat.run) finish(`${error.message}.`, true);
    else refuse(error);
  }
}

/** Add a reply to the conversation. */
function add(message, once) {
  const found = load();
  if (found && found.once !== once) return adopt(found); // another tab was faster
  chat.messages.push(message);
  delete chat.once;
  delete chat.run;
  save();
  arrange();
  announce(message);
}

/** Move a message that was not accepted back to the text field. */
function refuse(error) {
  const found = load();
  if (found && (found.once !== chat.once || found.run)) return adopt(found); // another tab sent it
  const text = textOf(chat.messages.pop());
  delete chat.once;
  save();
  show(chat);
  $("chat-text").value = [text, $("chat-text").value].filter(Boolean).join("\n");
  report("chat-status", `Not sent: ${error.message}.`, true);
}
