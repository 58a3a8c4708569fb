// Topics: watch them on the stream of the page, and publish.

import { call } from "./access.js";
import { count } from "./chart.js";
import { $, make, oncePerFrame, report } from "./page.js";
import { drop, follow, observe, pause, resume } from "./stream.js";

const LOG_SIZE = 200; // messages kept on screen
const LONGEST = 2000; // characters shown of a message
const GAPS = { epoch: "the service was restarted", evicted: "they are no longer stored" };
const pending = []; // messages for the next frame: a fast topic must not freeze the page

const MANY = 20; // events that one button publishes
const BETWEEN = 100; // milliseconds
const CONNECTION = { live: "events connected", dropped: "events dropped", off: "no event stream" };
let isPublishing = false;
let isAtEnd = true; // measured when the user scrolls, as the log also changes its height

function log(labels, text, id = "") {
  const rest = text.length > LONGEST ? `… (${text.length} characters)` : "";
  const time = new Date().toLocaleTimeString();
  const about = [time, ...labels].filter(Boolean).join(" · ");
  const parts = [about, id].map((each) => make("span", {}, each));
  const caption = make("span", { className: "hint caption" }, ...parts);
  if (!pending.length) requestAnimationFrame(flush);
  const content = make("span", {}, text.slice(0, LONGEST) + rest);
  pending.push(make("div", { className: "message" }, caption, content));
  if (pending.length > LOG_SIZE) pending.shift();
}

function flush() {
  const box = $("message-log");
  box.append(...pending.splice(0));
  while (box.childElementCount > LOG_SIZE) box.firstElementChild.remove();
  if (isAtEnd) box.scrollTop = box.scrollHeight; // else the user has scrolled back
}

async function watch(event) {
  event.preventDefault();
  const topics = $("topic").value.split(/[\s,]+/).filter(Boolean);
  const names = topics.join(", ");
  report("topic-status", `Connecting to ${names}…`);
  const follower = {
    topics,
    onevent: ({ topic, event: kind, data, id }) => {
      count();
      log([topic, kind], typeof data === "string" ? data : JSON.stringify(data), id);
    },
    ongap: (reason) => log(["Events were missed"], GAPS[reason] ?? reason),
    onstate: (isLive, why) => report("topic-status", isLive ? `Watching: ${names}` : why, !isLive),
  };
  try {
    await follow("topic", follower);
    $("stop").hidden = false;
  } catch (error) {
    report("topic-status", `Cannot watch ${names}: ${error.message}.`, true);
  }
}

async function stop() {
  if (document.activeElement === $("stop")) $("watch").focus(); // the focused button will be hidden
  $("stop").hidden = true;
  await follow("topic", null);
  report("topic-status", "Stopped.");
}

/** Show the state of the event stream of the page, and what its last resumption has replayed. */
function showConnection({ name, position, replay }) {
  report("connection", CONNECTION[name] ?? "events connecting…");
  $("connection").dataset.state = name;
  $("last-id").textContent = position || "none";
  // Both buttons stay, so that a second click on one does not hit the other.
  $("drop").ariaDisabled = name !== "live";
  $("resume").ariaDisabled = name !== "dropped";
  const kept = "The service keeps the events.";
  if (name === "dropped") report("drop-status", `Dropped after id ${position}. ${kept}`);
  else if (!replay) report("drop-status", "");
  else report("drop-status", `Resumed after id ${replay.after}, ${events(replay.count)} replayed.`);
}

const events = (number) => (number === 1 ? "1 event" : `${number} events`);

/** Prepare the panel. The state is shown once per frame: a fast topic must not freeze the page. */
export function openTopics() {
  let state = null;
  const show = oncePerFrame(() => showConnection(state));
  observe((found) => {
    state = found;
    show();
  });
  $("watch-form").onsubmit = watch;
  $("stop").onclick = stop;
  $("drop").onclick = drop;
  $("resume").onclick = () =>
    resume().catch((error) => report("drop-status", `Not resumed: ${error.message}.`, true));
  $("publish-form").onsubmit = publish;
  $("log-clear").onclick = () => $("message-log").replaceChildren();
  $("message-log").onscroll = ({ target: box }) => {
    isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
  };
}

async function send(text) {
  const name = $("publish-event").value.trim();
  const query = name && `?${new URLSearchParams({ event: name })}`;
  const headers = { "Content-Type": $("publish-type").value };
  const url = `topics/${encodeURIComponent($("publish-topic").value)}/events${query}`;
  return (await call(url, { method: "POST", headers, body: text })).json();
}

async function publish(event) {
  event.preventDefault();
  const text = $("publish-body").value;
  if (event.submitter?.id === "publish-many") return publishMany(text);
  try {
    const { id, topic } = await send(text);
    report("publish-status", `Published to ${topic} as ${id}.`);
  } catch (error) {
    report("publish-status", `Not published: ${error.message}.`, true);
  }
}

/** Publish some events one after the other; text has their numbers. */
async function publishMany(text) {
  if (isPublishing) return;
  isPublishing = true;
  $("publish-many").ariaDisabled = true;
  const isText = $("publish-type").value === "text/plain";
  let done = 0;
  report("publish-status", `Publishing ${MANY} events…`);
  try {
    for (; done < MANY; done += 1) {
      if (done) await pause(BETWEEN);
      await send(isText ? `${text} ${done + 1}` : text);
    }
    report("publish-status", `Published ${MANY} events.`);
  } catch (error) {
    report("publish-status", `Published ${done} of ${MANY}: ${error.message}.`, true);
  }
  isPublishing = false;
  $("publish-many").ariaDisabled = false;
}
