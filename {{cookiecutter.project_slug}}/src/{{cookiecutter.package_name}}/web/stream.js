// The single event stream of the page, shared by all of its parts. A browser opens at most six
// connections to an HTTP/1.1 host, for all tabs: a stream per topic would use them up.

import { call } from "./page.js";

export const LOST = "Connection lost, trying again…";
const RETRY = 5_000; // milliseconds after a rejection; after a loss, the browser itself reconnects
const PATIENCE = 10_000; // milliseconds until a request is aborted
const kinds = new Set(["message", "reset"]); // event names that the page listens for
const followers = new Map(); // by part: { topics, onevent, ongap, onstate }
let source = null;
let topics = []; // topics of the stream
let position = ""; // the id of the last delivered event
let turn = Promise.resolve(); // resolves when the previous change is complete

const number = (id) => Number(id.split("-")[1]);
const covers = (one, topic) =>
  one === topic || (one.endsWith(".*") && topic.startsWith(one.slice(0, -1)));

/** Listen for events with this name too; a browser delivers only events with a listener. */
export function listen(kind) {
  kinds.add(kind);
  source?.addEventListener(kind, receive);
}

/** Replace the topics that a part of the page follows; null stops following. */
export function follow(part, follower) {
  const done = turn.then(async () => {
    const parts = [...new Map(followers).set(part, follower).values()];
    await change([...new Set(parts.flatMap((each) => each?.topics ?? []))]);
    if (follower) followers.set(part, follower);
    else followers.delete(part);
    if (source?.readyState === EventSource.OPEN) follower?.onstate(true);
  });
  turn = done.catch(() => {});
  return done;
}

/** Switch to other topics without missing events of the old ones; new topics begin now. */
async function change(wanted) {
  const isNew = wanted.some((one) => !topics.includes(one));
  if (!isNew && wanted.length === topics.length) return;
  const now = isNew && (await poll(wanted)).last_event_id; // throws before anything is changed
  source?.close();
  try {
    for (let more = isNew && topics.length; more; ) { // deliver the missed events
      const { events, last_event_id: reached } = await poll(topics, position);
      events.filter((each) => kinds.has(each.event ?? "message")).forEach(deliver);
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

function connect() {
  source = null;
  if (!topics.length) return;
  const own = (source = new EventSource(address(topics, { last_event_id: position })));
  kinds.forEach(listen);
  own.onopen = () => notify(true);
  own.onerror = () => {
    notify(false);
    const isRefused = own.readyState === EventSource.CLOSED; // such as by a draining service
    if (isRefused) setTimeout(() => own === source && connect(), RETRY);
  };
}

const notify = (isLive) => followers.forEach((each) => each.onstate(isLive));

function receive({ type: event, data, lastEventId }) {
  position = lastEventId;
  if (event === "reset") deliver({ event, data: JSON.parse(data) });
  else if (topics.length > 1 || topics[0].endsWith(".*")) deliver(JSON.parse(data));
  else deliver({ topic: topics[0], event: event !== "message" && event, data });
}

/** Pass an event to its followers; with several topics `data` may be a JSON value. */
function deliver({ topic, event, data }) {
  for (const each of followers.values()) {
    if (event === "reset") each.ongap(data.reason);
    else if (each.topics.some((one) => covers(one, topic))) each.onevent({ topic, event, data });
  }
}
