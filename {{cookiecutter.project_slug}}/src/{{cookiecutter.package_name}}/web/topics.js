// Topics: watch them on the stream of the page, and publish.

import { call } from "./access.js";
import { $, make, report } from "./page.js";
import { LOST, follow } from "./stream.js";

const LOG_SIZE = 200; // messages kept on screen
const LONGEST = 2000; // characters shown of a message
const GAPS = { epoch: "the service was restarted", evicted: "they are no longer stored" };
const pending = []; // messages for the next frame: a fast topic must not freeze the page

function log(labels, text) {
  const rest = text.length > LONGEST ? `… (${text.length} characters)` : "";
  const time = new Date().toLocaleTimeString();
  const about = [time, ...labels].filter(Boolean).join(" · ");
  const caption = make("span", { className: "hint" }, about);
  if (!pending.length) requestAnimationFrame(flush);
  const shown = make("span", {}, text.slice(0, LONGEST) + rest);
  pending.push(make("div", { className: "message" }, caption, shown));
  if (pending.length > LOG_SIZE) pending.shift();
}

function flush() {
  const box = $("message-log");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
  box.append(...pending.splice(0));
  while (box.childElementCount > LOG_SIZE) box.firstElementChild.remove();
  if (atEnd) box.scrollTop = box.scrollHeight; // keep the position of a user who has scrolled back
}

export async function watch(event) {
  event.preventDefault();
  const topics = $("topic").value.split(/[\s,]+/).filter(Boolean);
  const names = topics.join(", ");
  report("topic-status", `Connecting to ${names}…`);
  const follower = {
    topics,
    onevent: ({ topic, event: kind, data }) =>
      log([topic, kind], typeof data === "string" ? data : JSON.stringify(data)),
    ongap: (reason) => log(["Events were missed"], GAPS[reason] ?? reason),
    onstate: (isLive) => report("topic-status", isLive ? `Watching: ${names}` : LOST, !isLive),
  };
  try {
    await follow("topic", follower);
    $("stop").hidden = false;
  } catch (error) {
    report("topic-status", `Cannot watch ${names}: ${error.message}.`, true);
  }
}

export async function stop() {
  if (document.activeElement === $("stop")) $("watch").focus(); // the focused button will be hidden
  $("stop").hidden = true;
  await follow("topic", null);
  report("topic-status", "Stopped.");
}

export async function publish(event) {
  event.preventDefault();
  const name = $("publish-event").value.trim();
  const query = name && `?${new URLSearchParams({ event: name })}`;
  const headers = { "Content-Type": $("publish-type").value };
  const options = { method: "POST", headers, body: $("publish-body").value };
  const url = `topics/${encodeURIComponent($("publish-topic").value)}/events${query}`;
  try {
    const { id, topic } = await (await call(url, options)).json();
    report("publish-status", `Published to ${topic} as ${id}.`);
  } catch (error) {
    report("publish-status", `Not published: ${error.message}.`, true);
  }
}
