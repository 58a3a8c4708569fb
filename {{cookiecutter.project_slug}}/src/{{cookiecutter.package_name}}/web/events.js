// Server-Sent Events with fetch(): an EventSource can neither send a key nor report a status.

import { call } from "./access.js";

export const LOST = "Connection lost, trying again…";
// The service ends the stream after these; after "reauth" the next request gets 401.
const FAREWELLS = new Set(["reconnect", "error", "reauth"]);
const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

/** Yield the lines of a body, without their ends. */
export async function* lines(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  for (let rest = "", done = false; !done; ) {
    const chunk = await reader.read();
    done = chunk.done;
    const parts = (rest + decoder.decode(chunk.value, { stream: !done })).split("\n");
    if (!done) rest = parts.pop(); // an incomplete line
    yield* parts;
  }
}

/** Yield the fields of each event, also of those without data. */
async function* parse(body) {
  let fields = {};
  for await (const line of lines(body)) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
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
      if (error.status && !signal.aborted) throw error;
    }
    if (!signal.aborted) onstate(false);
  }
}
