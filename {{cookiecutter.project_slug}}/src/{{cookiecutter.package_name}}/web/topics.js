// Topics: watch them, on the page's one stream, and publish.

import { $, call, make, say } from "./page.js";
import { LOST, follow, listen } from "./stream.js";

const LOG_SIZE = 200; // messages kept on screen
const LONGEST = 2000; // characters shown of a message
const GAPS = { epoch: "the service has started anew", evicted: "they are no longer kept" };
const pending = []; // messages for the next frame: a fast topic must not freeze the page

function log(about, text) {
  const rest = text.length > LONGEST ? `… (${text.length} characters)` : "";
  const time = new Date().toLocaleTimeString();
  const head = make("span", { className: "hint" }, [time, ...about].filter(Boolean).join(" · "));
  if (!pending.length) requestAnimationFrame(flush);
  const shown = make("span", {}, text.slice(0, LONGEST) + rest);
  pending.push(make("div", { className: "message" }, head, shown));
  if (pending.length > LOG_SIZE) pending.shift();
}

function flush() {
  const box = $("message-log");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
  box.append(...pending.splice(0));
  while (box.childElementCount > LOG_SIZE) box.firstElementChild.remove();
  if (atEnd) box.scrollTop = box.scrollHeight; // do not pull away somebody who scrolled back
}

export async function watch(event) {
  event.preventDefault();
  const topics = $("topic").value.split(/[\s,]+/).filter(Boolean);
  const names = topics.join(", ");
  say("topic-status", `Connecting to ${names}…`);
  const follower = {
    topics,
    onevent: ({ topic, event: kind, data }) =>
      log([topic, kind], typeof data === "string" ? data : JSON.stringify(data)),
    ongap: (reason) => log(["Events were missed"], GAPS[reason] ?? reason),
    onstate: (isLive) => say("topic-status", isLive ? `Watching: ${names}` : LOST, !isLive),
  };
  try {
    await follow("topic", follower);
    $("stop").hidden = false;
  } catch (error) {
    say("topic-status", `Cannot watch ${names}: ${error.message}.`, true);
  }
}

export async function stop() {
  if (document.activeElement === $("stop")) $("watch").focus(); // do not lose it with the button
  $("stop").hidden = true;
  await follow("topic", null);
  say("topic-status", "Stopped.");
}

export async function publish(event) {
  event.preventDefault();
  const name = $("publish-event").value.trim();
  if (name) listen(name);
  const query = name && `?${new URLSearchParams({ event: name })}`;
  const headers = { "Content-Type": $("publish-type").value };
  const options = { method: "POST", headers, body: $("publish-body").value };
  const url = `topics/${encodeURIComponent($("publish-topic").value)}/events${query}`;
  try {
    const { id, topic } = await (await call(url, options)).json();
    say("publish-status", `Published to ${topic} as ${id}.`);
  } catch (error) {
    say("publish-status", `Not published: ${error.message}.`, true);
  }
}
