// The requests of this page, each as a command for a shell, with $AUTH in place of the key.

import { $, make, report } from "./page.js";

const LIMIT = 100; // requests in the list
const LONGEST = 1000; // characters of a body in a command
const SECRET = /^(authorization|x-api-key)$/i;
export const FALSE_KEY = "Bearer sk_unknown"; // of an example: commands contain it
let latest = null; // { id, row, count, isDone } of the newest row

/** Quote a word for a POSIX shell. */
const quote = (word) => `'${word.replaceAll("'", "'\\''")}'`;

const isSecret = ([name, value]) => SECRET.test(name) && value !== FALSE_KEY;

/** Return the name of a file for a command; not one that a terminal or curl would interpret. */
const nameOf = ({ name = "-" }) => (name === "-" || /\p{C}/u.test(name) ? "body" : name);

/** Return the arguments of curl that send a body; a file must be in the current folder. */
function sending(body, hasType) {
  if (body instanceof Blob) return ["--data-binary", quote(`@${nameOf(body)}`)];
  const data =
    body.length > LONGEST ? ["--data-binary", "@body"] : ["--data-raw", quote(body)];
  // Both curl and fetch() add a type if there is none, but not the same one.
  return hasType ? data : ["-H", "'Content-Type: text/plain;charset=UTF-8'", ...data];
}

/** Return a request as a command of curl. */
export function curl({ method, url, headers = {}, body = "" }) {
  const fields = Object.entries(headers);
  const types = fields.filter(([name]) => /^content-type$/i.test(name));
  const hasBody = body instanceof Blob || body !== "";
  const { href } = new URL(url, document.baseURI);
  const words = ["curl"];
  if (method === "HEAD") words.push("--head");
  else if (method !== (hasBody ? "POST" : "GET")) words.push("-X", method);
  if (fields.some(([, value]) => value === "text/event-stream")) words.push("--no-buffer");
  if (/[[\]{}]/.test(href)) words.push("--globoff");
  words.push(quote(href));
  for (const [name, value] of fields) {
    if (isSecret([name, value])) words.push("-H", '"$AUTH"');
    else words.push("-H", quote(value === "" ? `${name};` : `${name}: ${value}`));
  }
  if (hasBody) words.push(...sending(body, types.length > 0));
  return words.join(" ");
}

async function copy(command, what) {
  try {
    await navigator.clipboard.writeText(command);
    report("requests-status", `Copied the command for ${what}.`);
  } catch {
    report("requests-status", command); // without HTTPS, or if the browser does not permit it
  }
}

function createRow(request, path) {
  const { method } = request;
  const time = new Date().toLocaleTimeString([], { hour12: false });
  const ariaLabel = `Copy as curl: ${method} ${path}`;
  const button = make("button", { type: "button", className: "quiet", ariaLabel }, "Copy as curl");
  button.onclick = () => copy(curl(request), `${method} ${path}`);
  const cells = [time, method, path, "…", "", button].map((each) => make("td", {}, each));
  return make("tr", {}, ...cells);
}

/** Add a request to the list. `done` is called with its status, or 0 if it has failed. */
export function logRequest({ method, url, headers = {}, body = "" }) {
  const started = performance.now();
  const { origin, href } = new URL(url, document.baseURI);
  const path = href.startsWith(`${location.origin}/`) ? href.slice(origin.length) : href;
  // A request that is repeated, such as each check of the health, stays in one row.
  const id = body === "" && JSON.stringify([method, path, headers]);
  const isRepeated = id && latest?.id === id && latest.isDone && latest.row.isConnected;
  const request = { method, url, headers, body };
  const row = isRepeated ? latest.row : createRow(request, path);
  const own = (latest = { id, row, count: isRepeated ? latest.count + 1 : 1, isDone: false });
  if (!isRepeated) $("request-rows").prepend(row);
  if ($("request-rows").childElementCount > LIMIT) $("request-rows").lastElementChild.remove();
  if (Object.entries(headers).some(isSecret)) $("requests-auth").hidden = false;
  return {
    done(status) {
      const [, , , state, duration] = row.children;
      const words = status ? String(status) : "failed";
      const took = `${Math.round(performance.now() - started)} ms`;
      own.isDone = true;
      row.classList.toggle("error", !status || status >= 400);
      state.textContent = own.count > 1 ? `${words} ×${own.count}` : words;
      duration.textContent = took;
      $("requests-last").textContent = `${method} ${path} · ${words} · ${took}`;
    },
  };
}

export function clearRequests() {
  $("request-rows").replaceChildren();
  report("requests-status", "");
}

/** Call fetch(), and log it. */
export async function loggedFetch(url, options = {}) {
  const { method = "GET", headers, body } = options;
  const entry = logRequest({ method, url, headers, body });
  try {
    const response = await fetch(url, options);
    entry.done(response.status);
    return response;
  } catch (error) {
    entry.done(0);
    throw error;
  }
}
