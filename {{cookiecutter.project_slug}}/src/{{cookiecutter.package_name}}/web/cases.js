// Requests that fail, for the list of errors. `needs` are the routes that an entry uses; the
// service must have all of them. `refused` is a route that the key does not permit. `steps` sends
// several requests, of which only the last one fails; it throws a Problem if an earlier one does.

import { call, credentials } from "./access.js";
import { random } from "./page.js";
import { FALSE_KEY, loggedFetch } from "./requests.js";

const json = { "Content-Type": "application/json" };
const text = { "Content-Type": "text/plain" };
const WRONG_DIGEST = `sha-256=:${"A".repeat(43)}=:`;

const post = (url, headers, body) => ({ method: "POST", url, headers, body });

/** Call a function with the path of a file, which is deleted afterwards. */
async function withFile(use) {
  const file = { method: "POST", headers: text, body: "example" };
  const created = await call("files?filename=example.txt", file);
  const path = `files/${(await created.json()).id}`;
  try {
    return await use(path);
  } finally {
    await remove(path);
  }
}

/** Call a function with the path of an unfinished upload, which is deleted afterwards. */
async function withUpload(use) {
  const headers = { "Upload-Complete": "?0", "Upload-Length": "10" };
  const created = await call("uploads", { method: "POST", headers });
  const path = `uploads/${created.headers.get("Location").split("/").pop()}`;
  try {
    return await use(path);
  } finally {
    await remove(path);
  }
}

const remove = (path) => loggedFetch(path, { method: "DELETE", headers: credentials() });

const ofFile = (request) => (send) => withFile((url) => send({ ...request, url }));

const taken = (send) =>
  withUpload((url) => {
    const type = { "Content-Type": "application/partial-upload" };
    const headers = { ...type, "Upload-Complete": "?0", "Upload-Offset": "5" };
    return send({ method: "PATCH", url, headers, body: "later" });
  });

async function reused(send) {
  const headers = { ...text, "Idempotency-Key": random() };
  const url = "topics/demo/events";
  await call(url, { method: "POST", headers, body: "one event" });
  return send(post(url, headers, "another event"));
}

const upload = (headers) => post("files?filename=example.txt", { ...text, ...headers }, "example");
const rows = (type, body) => post("ingest/readings", { "Content-Type": type }, body);

export const CASES = [
  { status: 404, title: "Unknown path", request: { url: "no-such-path" } },
  {
    status: 405,
    title: "Wrong method",
    request: { method: "DELETE", url: "health/live" },
  },
  {
    status: 401,
    title: "No key",
    needs: ["get /access"],
    request: { url: "access", isAnonymous: true },
  },
  {
    status: 401,
    title: "Unknown key",
    needs: ["get /access"],
    request: { url: "access", isAnonymous: true, headers: { Authorization: FALSE_KEY } },
  },
  {
    status: 403,
    title: "Key that may not delete",
    refused: "delete /files/*",
    request: { method: "DELETE", url: "files/unknown" },
  },
  {
    status: 403,
    title: "Key that may not publish",
    refused: "post /topics/*/events",
    request: post("topics/demo/events", text, "hello"),
  },
  {
    status: 403,
    title: "Read-only topic",
    needs: ["post /topics/*/events", "post /files"],
    request: post("topics/files/events", text, "hello"),
  },
  {
    status: 404,
    title: "Unknown file",
    needs: ["get /files/*"],
    request: { url: "files/unknown" },
  },
  {
    status: 406,
    title: "Unavailable format",
    needs: ["get /exports/table"],
    request: { url: "exports/table", headers: { Accept: "image/png" } },
  },
  {
    status: 412,
    title: "False precondition",
    needs: ["post /files", "get /files/*", "delete /files/*"],
    request: { url: "files/ID" },
    steps: ofFile({ headers: { "If-Match": '"other"' } }),
  },
  {
    status: 416,
    title: "Range after the end",
    needs: ["post /files", "get /files/*", "delete /files/*"],
    request: { url: "files/ID" },
    steps: ofFile({ headers: { Range: "bytes=999999999999-" } }),
  },
  {
    status: 422,
    title: "Parameter out of range",
    needs: ["get /files"],
    request: { url: "files?limit=0" },
  },
  {
    status: 422,
    title: "Not a number",
    needs: ["get /exports/lines"],
    request: { url: "exports/lines?count=many" },
  },
  {
    status: 422,
    title: "Invalid JSON member",
    needs: ["post /runs/counter"],
    request: post("runs/counter", json, '{"count": -1}'),
  },
  {
    status: 422,
    title: "Reused idempotency key",
    needs: ["post /topics/*/events"],
    request: post("topics/demo/events", text),
    steps: reused,
  },
  {
    status: 400,
    title: "Digest mismatch",
    needs: ["post /files"],
    request: upload({ "Content-Digest": WRONG_DIGEST }),
  },
  {
    status: 400,
    title: "Partial body",
    needs: ["post /files"],
    request: upload({ "Content-Range": "bytes 0-6/99" }),
  },
  {
    status: 415,
    title: "Compressed body",
    needs: ["post /files"],
    request: upload({ "Content-Encoding": "gzip" }),
  },
  {
    status: 415,
    title: "Unknown format of rows",
    needs: ["post /ingest/readings"],
    request: rows("image/png", "sensor"),
  },
  {
    status: 400,
    title: "Ambiguous columns",
    needs: ["post /ingest/readings"],
    request: rows("text/csv", "sensor,sensor\na,b\n"),
  },
  {
    status: 413,
    title: "Too many bytes declared",
    needs: ["post /uploads"],
    request: post("uploads", { "Upload-Complete": "?0", "Upload-Length": "999999999999999" }),
  },
  {
    status: 413,
    title: "Too large event",
    needs: ["post /topics/*/events"],
    request: post("topics/demo/events", text, "x".repeat(70_000)),
  },
  {
    status: 409,
    title: "Wrong offset",
    needs: ["post /uploads", "patch /uploads/*", "delete /uploads/*"],
    request: { method: "PATCH", url: "uploads/ID" },
    steps: taken,
  },
  {
    status: 426,
    title: "Missing handshake",
    needs: ["get /topics/*/events"],
    request: { url: "topics/demo/ws" },
  },
  {
    status: 431,
    title: "Too long header field",
    request: { url: "openapi.json", headers: { Prefer: "x".repeat(3000) } },
  },
  {
    status: 200,
    title: "JSON Lines, cut off",
    needs: ["get /exports/lines"],
    request: { url: "exports/lines?count=8&fail_after=5" },
    isStream: true,
  },
  {
    status: 200,
    title: "CSV, cut off",
    needs: ["get /exports/lines"],
    request: { url: "exports/lines?count=8&fail_after=5", headers: { Accept: "text/csv" } },
    isStream: true,
  },
];
