// The single event stream of the page, shared by all of its parts. A browser opens at most six
// connections to an HTTP/1.1 host, for all tabs: a stream per topic would use them up.

import { call } from "./access.js";
import { subscribe } from "./events.js";

const RETRY = 5_000; // milliseconds after a refusal, such as by a draining service
const PATIENCE = 10_000; // milliseconds until a request is aborted
const followers = new Map(); // by part: { topics, onevent, ongap, onstate }
let source = null; // the AbortController of the stream
let isLive = false;
let topics = []; // topics of the stream
let position = ""; // the id of the last delivered event
let turn = Promise.resolve(); // resolves when the previous change is complete

const number = (id) => Number(id.split("-")[1]);
const covers = (one, topic) =>
  one === topic || (one.endsWith(".*") && topic.startsWith(one.slice(0, -1)));

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
  if (!isNew && wanted.length === topics.length) return;
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
  if (!topics.length) return;
  const { signal } = (source = new AbortController());
  const url = (id) => address(topics, { last_event_id: id });
  const onstate = (state) => {
    isLive = state;
    followers.forEach((each) => each.onstate(isLive));
  };
  try {
    await subscribe(url, position, { signal, onevent: receive, onstate });
  } catch (error) {
    if (error.status !== 401) setTimeout(() => signal.aborted || connect(), RETRY);
  }
  if (!signal.aborted) onstate(false);
}

function receive(event, data, id) {
  position = id;
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
