// Access: the key of the user, which the page sends with every request as a header. A service
// without access control needs no key, and this page never asks for one.

import { $, Problem, confirmed, describe, report } from "./page.js";
import { loggedFetch } from "./requests.js";

// Not in sessionStorage: the link with the first key is shown once, and another tab needs the key
// as well. The path distinguishes services that share a host.
const STORED = `key of ${location.pathname}`;
export const CHAT = `chat of ${location.pathname}`; // the conversation, deleted with the key
export const UPLOADS = `uploads of ${location.pathname}`; // unfinished ones, also deleted with it
const SENDABLE = /^[!-~]+$/; // other characters cannot be in a header
const REPLACED = "It replaces the key of this browser, which cannot be shown again. Uploads then \
belong to the owner of the new key.";
let key = stored((storage) => storage.getItem(STORED));

// The page belongs to its key: load it again when another tab changes or removes the key.
addEventListener("storage", ({ key: name, newValue }) => {
  if ([STORED, null].includes(name) && newValue !== key) location.reload();
});

/** Use localStorage; null in a browser that blocks it, where the key is lost with the page. */
export function stored(use) {
  try {
    return use(localStorage);
  } catch {
    return null;
  }
}

export const hasKey = () => Boolean(key);
export const credentials = () => (key ? { Authorization: `Bearer ${key}` } : {});

function keep(found) {
  key = found;
  stored((storage) => storage.setItem(STORED, key));
}

/**
 * Take the key of a link from the fragment, and remove it from the address bar and the history.
 * Return whether it is used. The link may be of an attacker: ask before it replaces a key.
 */
export async function takeKey() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const found = fragment.get("key");
  if (found === null) return false;
  fragment.delete("key");
  history.replaceState(null, "", fragment.size ? `#${fragment}` : ".");
  if (!SENDABLE.test(found) || found === key) return false;
  const isRefused = !$("key-section").hidden; // the present key does not work
  const agree = () => confirmed("Use the key of this link?", REPLACED, "Use it");
  const isUsed = !key || isRefused || (await agree());
  if (isUsed) keep(found);
  return isUsed;
}

export function forget() {
  stored((storage) => [STORED, CHAT, UPLOADS].forEach((each) => storage.removeItem(each)));
  location.reload();
}

/** Show the form for a key; `why` is the reason of the service. */
export function ask(why = "") {
  if (!$("key-section").hidden) return; // several requests can fail at the same time
  $("key-section").hidden = false;
  report("key-status", why, true);
  $("key").focus();
}

/** Try the key that was entered, and load the page again with it. */
export async function enter(event) {
  event.preventDefault();
  const entered = $("key").value.trim();
  report("key-status", "");
  try {
    await call("access", { headers: { Authorization: `Bearer ${entered}` } });
    keep(entered);
    location.reload();
  } catch (error) {
    report("key-status", `${error.message}.`, true);
  }
}

/** Call fetch(); throw a Problem for an error status and for a failed connection. */
export async function call(url, { headers, ...options } = {}) {
  const all = { ...credentials(), ...headers };
  const response = await loggedFetch(url, { ...options, headers: all }).catch(() => {
    throw new Problem("The service cannot be reached");
  });
  if (response.ok) return response;
  const body = await response.json().catch(() => null); // null for a proxy's HTML page
  const problem = new Problem(describe(body, response.status));
  if (response.status === 401) ask(`${problem.message}.`);
  throw Object.assign(problem, { status: response.status });
}

export async function post(url, body, { headers, ...options } = {}) {
  const all = { "Content-Type": "application/json", ...headers };
  const request = { ...options, method: "POST", headers: all, body: JSON.stringify(body) };
  return (await call(url, request)).json();
}

/** Whether the scopes include one of the alternatives that an operation of the API requires. */
export function permits(security, scopes) {
  const permitted = (needed) => {
    const [prefix] = needed.split("{"); // "topics:publish:{topics}" depends on the topic
    const covers = (own) => own.endsWith("*") && needed.startsWith(own.slice(0, -1));
    return scopes.some((own) => own === "admin" || own.startsWith(prefix) || covers(own));
  };
  return !security?.length || security.some((each) => Object.values(each).flat().every(permitted));
}
