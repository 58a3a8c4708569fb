// Server-Sent Events with fetch(), as an EventSource can neither send a key nor report a status.
// All parts of the page share a single stream of topics. A browser opens at most six connections to
// an HTTP/1.1 host, for all tabs: a stream per topic would use them up.

import { call } from "./access.js";

export const LOST = "Connection lost, trying again…";
const DROPPED = "Dropped, until you resume the connection.";
// The service ends the stream after these; after "reauth" the next request gets 401.
const FAREWELLS = new Set(["reconnect", "error", "reauth"]);
export const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

const RETRY = 5_000; // milliseconds after a refusal, such as by a draining service
export const PATIENCE = 10_000; // milliseconds until a request is aborted
const followers = new Map(); // by part: { topics, onevent, ongap, onstate(isLive, why not) }
let source = null; // the AbortController of the stream
let isLive = false;
let topics = []; // topics of the stream
let position = ""; // the id of the last delivered event
let turn = Promise.resolve(); // resolves when the previous change is complete
let isDropped = false; // by the user
let replay = null; // { after, until, count } of the last resumption
const observers = []; // functions that show the state of the stream

/** Whether the same request can succeed later: no connection, a limit, or a proxy or a drain. */
export const isTemporary = ({ status }) => !status || [408, 429].includes(status) || status > 500;

const epoch = (id) => id.split("-")[0];
const number = (id) => Number(id.split("-")[1]);
const covers = (one, topic) =>
  one === topic || (one.endsWith(".*") && topic.startsWith(one.slice(0, -1)));

/** Call a function with each state of the stream, and now: { name, position, replay }. */
export function observe(show) {
  observers.push(show);
  tell();
}

function tell() {
  const name = !topics.length ? "off" : isLive ? "live" : isDropped ? "dropped" : "connecting";
  observers.forEach((show) => show({ name, position, replay }));
}

/** End the stream, as a broken connection would, until `resume` is called. */
export function drop() {
  if (!isLive) return;
  isDropped = true;
  replay = null;
  source.abort();
  setLive(false);
}

/** Connect again after the last delivered event, and count the events that were missed. */
export async function resume() {
  if (!isDropped) return;
  const after = position;
  const { last_event_id: until } = await poll(topics); // throws before anything is changed
  if (!isDropped) return; // a second click
  replay = { after, until, count: 0 };
  connect();
}

function setLive(state) {
  isLive = state;
  followers.forEach((each) => each.onstate(isLive, isDropped ? DROPPED : LOST));
  tell();
}

/** Replace the topics that a part of the page follows; null stops following. */
export function follow(part, follower) {
  const done = turn.then(async () => {
    const parts = [...new Map(followers).set(part, follower).values()];
    await change([...new Set(parts.flatMap((each) => each?.topics ?? []))]);
    if (follower) followers.set(part, follower);
    else followers.delete(part);
    if (isLive) follower?.onstate(true);
  });
  turn = done.catch(() => {});
  return done;
}

/** Switch to other topics without missing events of the old ones; new topics begin now. */
async function change(wanted) {
  const isNew = wanted.some((one) => !topics.includes(one));
  if (!isNew && wanted.length === topics.length && !isDropped) return;
  const now = isNew && (await poll(wanted)).last_event_id; // throws before anything is changed
  source?.abort();
  isLive = false;
  try {
    for (let more = isNew && topics.length; more; ) { // deliver the missed events
      const { events, last_event_id: reached } = await poll(topics, position);
      events.forEach(deliver);
      position = reached;
      more = events.length;
    }
    if (isNew && !(topics.length && number(position) > number(now))) position = now;
    topics = wanted;
  } finally {
    connect();
  }
}

const address = (names, query) =>
  `topics/${names.map(encodeURIComponent)}/events?${new URLSearchParams(query)}`;

async function poll(names, after) {
  const query = { poll: 0, ...(after && { last_event_id: after }) };
  return (await call(address(names, query), { signal: AbortSignal.timeout(PATIENCE) })).json();
}

async function connect() {
  isDropped = false;
  tell();
  if (!topics.length) return;
  const { signal } = (source = new AbortController());
  const url = (id) => address(topics, { last_event_id: id });
  try {
    await subscribe(url, position, { signal, onevent: receive, onstate: setLive });
  } catch (error) {
    if (error.status !== 401) setTimeout(() => signal.aborted || connect(), RETRY);
  }
  if (!signal.aborted) setLive(false);
}

function receive(event, data, id) {
  position = id;
  if (event === "reset") deliver({ event, data: JSON.parse(data) });
  else if (topics.length > 1 || topics[0].endsWith(".*")) deliver({ ...JSON.parse(data), id });
  else deliver({ topic: topics[0], event: event !== "message" && event, data, id });
  if (replay && event !== "reset" && isMissed(id)) replay.count += 1;
  tell();
}

/** Whether an event was published before the stream was resumed. */
const isMissed = (id) => epoch(id) === epoch(replay.until) && number(id) <= number(replay.until);

/** Pass an event to its followers; with several topics `data` may be a JSON value. */
function deliver({ topic, event, data, id }) {
  for (const each of followers.values()) {
    if (event === "reset") each.ongap(data.reason);
    else if (each.topics.some((one) => covers(one, topic)))
      each.onevent({ topic, event, data, id });
  }
}

/** Yield the lines of a body, without their ends: CR, LF or CRLF. */
export async function* lines(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  for (let rest = "", done = false; !done; ) {
    const chunk = await reader.read();
    done = chunk.done;
    rest += decoder.decode(chunk.value, { stream: !done });
    const parts = rest.split(/\r\n|\n|\r(?!$)/); // a CR at the end may be the half of a CRLF
    rest = parts.pop(); // an incomplete line
    yield* parts;
    if (done && rest) yield rest.replace(/\r$/, "");
  }
}

/** Yield the fields of each event, also of those without data. */
async function* parse(body) {
  let fields = {};
  for await (const line of lines(body)) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line); // "s", as text may have a U+2028
    if (!line) {
      yield fields;
      fields = {};
    } else if (name) {
      fields[name] = name === "data" && "data" in fields ? `${fields.data}\n${value}` : value;
    }
  }
}

/**
 * Follow a stream until the signal aborts it, and reconnect like an EventSource.
 * `url` returns the address after an event id; `onstate` is called with whether it is connected.
 * Returns if the service has no more events (204), and throws its refusal.
 */
export async function subscribe(url, id, { signal, onevent, onstate }) {
  const headers = { Accept: "text/event-stream" };
  for (let retry = 2000; !signal.aborted; await pause(retry)) {
    try {
      // "no-store", because the cache would delay a second request for the same URL.
      const { status, body } = await call(url(id), { signal, headers, cache: "no-store" });
      if (status === 204) return;
      onstate(true);
      for await (const fields of parse(body)) {
        id = fields.id ?? id;
        retry = Number(fields.retry ?? retry);
        if (signal.aborted) return;
        if ("data" in fields && !FAREWELLS.has(fields.event))
          onevent(fields.event ?? "message", fields.data, id);
      }
    } catch (error) {
      if (!isTemporary(error) && !signal.aborted) throw error;
    }
    if (!signal.aborted) onstate(false);
  }
}
