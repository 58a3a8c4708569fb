// Two ways to upload a file: with and without the possibility to resume it.
// Bodies are sent with XMLHttpRequest, because fetch() does not report their progress.

import { ask, call, credentials } from "./access.js";
import { Problem, describe, routes } from "./page.js";
import { logRequest } from "./requests.js";
import { PATIENCE } from "./stream.js";

const STALL = 60_000; // milliseconds without progress until a request is aborted

/** Send a body and return the JSON of the response; throw a Problem like call(). */
function send(method, url, { body, signal, onprogress, headers: own }) {
  const xhr = Object.assign(new XMLHttpRequest(), { responseType: "json" });
  const headers = { ...own, ...credentials() };
  const entry = logRequest({ method, url, headers, body });
  const abort = () => xhr.abort();
  const watch = () => setTimeout(abort, STALL);
  let timer = watch();
  return new Promise((resolve, reject) => {
    const fail = (words, status) => reject(Object.assign(new Problem(words), { status }));
    xhr.upload.onprogress = ({ loaded }) => {
      clearTimeout(timer);
      timer = watch();
      onprogress(loaded);
    };
    xhr.upload.onloadend = () => clearTimeout(timer); // the service may now work for long
    xhr.onload = () => {
      const { status, response } = xhr; // the response is null when it is not JSON
      if (status === 201 && response) return resolve(response);
      const words = describe(response, status);
      if (status === 401) ask(`${words}.`);
      fail(words, status);
    };
    xhr.onerror = xhr.onabort = () => fail("The connection to the service is interrupted");
    xhr.onloadend = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      entry.done(xhr.status);
    };
    signal.addEventListener("abort", abort);
    xhr.open(method, url);
    Object.entries(headers).forEach((field) => xhr.setRequestHeader(...field));
    xhr.send(body);
  });
}

// Without a type, the service derives it from the name.
const typed = ({ type }) => (type ? { "Content-Type": type } : {});
const named = (route, { name }) => `${route}?${new URLSearchParams({ filename: name })}`;

/** `POST /files`: an interrupted upload has to start again. */
const plain = {
  isResumable: false,
  send: (file, options) =>
    send("POST", named("files", file), {
      ...options,
      body: file,
      headers: typed(file),
    }),
};

/**
 * The IETF draft of resumable uploads. Not tus 1.0, whose last response has no record of the file:
 * with the draft it is that of `POST /files`, also when the last request is repeated.
 */
const resumable = {
  isResumable: true,

  /** Create an upload and return its URL: relative, because a proxy can change the origin. */
  async create(file) {
    const headers = { ...typed(file), "Upload-Complete": "?0", "Upload-Length": file.size };
    const { headers: sent } = await call(named("uploads", file), { method: "POST", headers });
    return `uploads/${sent.get("Location").split("/").pop()}`;
  },

  /** Return the bytes that the service has, and the seconds for which it keeps them. */
  async find(url) {
    const signal = AbortSignal.timeout(PATIENCE);
    const { headers } = await call(url, { method: "HEAD", signal, cache: "no-store" });
    const [, seconds] = /max-age=(\d+)/.exec(headers.get("Upload-Limit")) ?? [];
    const isComplete = headers.get("Upload-Complete") === "?1";
    return { offset: Number(headers.get("Upload-Offset")), seconds: Number(seconds), isComplete };
  },

  send: (file, { url, offset, ...options }) =>
    send("PATCH", url, {
      ...options,
      body: offset ? file.slice(offset) : file,
      headers: {
        "Content-Type": "application/partial-upload",
        "Upload-Complete": "?1",
        "Upload-Offset": String(offset),
      },
    }),

  remove: (url) => call(url, { method: "DELETE", keepalive: true }),
};

export const transport = () => (routes.has("post /uploads") ? resumable : plain);
