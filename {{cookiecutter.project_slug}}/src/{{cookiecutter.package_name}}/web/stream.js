// The one stream of events of this page, whichever of its parts follow something. A browser opens
// six connections to an HTTP/1.1 host, for all tabs: a stream for each topic would use them up.

import { call } from "./page.js";

export const LOST = "Connection lost, trying again…";
const RETRY = 5_000; // milliseconds after a refusal; after a loss the browser tries again by itself
const PATIENCE = 10_000; // milliseconds for an answer
const kinds = new Set(["message", "reset"]); // the names of events to listen for
const followers = new Map(); // for each part: { topics, onevent, ongap, onstate }
let source = null;
let topics = []; // of the stream
let position = ""; // the id of the last event that was delivered
let turn = Promise.resolve(); // one change at a time

const number = (id) => Number(id.split("-")[1]);
const covers = (one, topic) =>
  one === topic || (one.endsWith(".*") && topic.startsWith(one.slice(0, -1)));

/** Listen for events of this name too; a browser delivers no others. */
export function listen(kind) {
  kinds.add(kind);
  source?.addEventListener(kind, hear);
}

/** Follow topics for a part of the page, or nothing, instead of what it has followed so far. */
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

/** Go on with other topics: no event of the old ones is missed, the new ones begin now. */
async function change(wanted) {
  const isNew = wanted.some((one) => !topics.includes(one));
  if (!isNew && wanted.length === topics.length) return;
  const now = isNew && (await poll(wanted)).last_event_id; // when refused, all stays as it is
  source?.close();
  try {
    for (let more = isNew && topics.length; more; ) { // what was still on its way
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
  own.onopen = () => tell(true);
  own.onerror = () => {
    tell(false);
    const isRefused = own.readyState === EventSource.CLOSED; // as by a service that is ending
    if (isRefused) setTimeout(() => own === source && connect(), RETRY);
  };
}

const tell = (isLive) => followers.forEach((each) => each.onstate(isLive));

function hear({ type: event, data, lastEventId }) {
  position = lastEventId;
  if (event === "reset") deliver({ event, data: JSON.parse(data) });
  else if (topics.length > 1 || topics[0].endsWith(".*")) deliver(JSON.parse(data));
  else deliver({ topic: topics[0], event: event !== "message" && event, data });
}

/** Data is text, or what JSON of several topics says. */
function deliver({ topic, event, data }) {
  for (const each of followers.values()) {
    if (event === "reset") each.ongap(data.reason);
    else if (each.topics.some((one) => covers(one, topic))) each.onevent({ topic, event, data });
  }
}
