// Errors: sends requests that fail, and shows each response as a client receives it.

import { credentials } from "./access.js";
import { CASES } from "./cases.js";
import { $, describe, make, refused, report, routes } from "./page.js";
import { loggedFetch } from "./requests.js";
import { lines } from "./stream.js";

const SHOWN = ["Allow", "Content-Range", "Retry-After", "Upload-Offset", "WWW-Authenticate"];
let current = null; // the entry whose response is shown

/** Show the requests that this service can refuse, with the routes that it has. */
export function openGallery() {
  const isPossible = (one) =>
    one.refused ? refused.has(one.refused) : (one.needs ?? []).every((route) => routes.has(route));
  const found = CASES.filter(isPossible).sort((one, other) => one.status - other.status);
  $("cases").replaceChildren(...found.map(createEntry));
  $("gallery").hidden = false;
}

function createEntry(one) {
  const { status, title, request, isStream } = one;
  const about = `${request.method ?? "GET"} /${request.url}`;
  const names = [make("strong", {}, title), make("span", { className: "hint" }, about)];
  const label = { type: "button", className: "quiet", ariaLabel: `Try: ${title}` };
  const button = make("button", label, "Try");
  const code = make("code", {}, isStream ? "cut" : String(status));
  const entry = make("li", {}, code, make("div", {}, ...names), button);
  button.onclick = () => attempt(one, entry);
  return entry;
}

async function attempt(one, entry) {
  current?.removeAttribute("aria-current");
  (current = entry).ariaCurrent = "true";
  const box = $("case-result");
  const parts = make("div"); // a later click must not mix its response with this one
  box.replaceChildren(parts);
  report("case-status", "Sending…");
  const tell = (...words) => box.firstChild === parts && report("case-status", ...words);
  const send = ({ isAnonymous, headers, ...request }) =>
    loggedFetch(request.url, {
      ...request,
      headers: { ...(!isAnonymous && credentials()), ...headers },
      cache: "no-store",
    });
  try {
    const response = await (one.steps?.(send) ?? send(one.request));
    const type = response.headers.get("Content-Type") ?? "no body";
    tell(`HTTP ${response.status} · ${type.split(";")[0]}`);
    if (one.isStream) await showStream(response, parts);
    else await showProblem(response, parts);
  } catch (error) {
    tell(`Not tried: ${error.message}.`, true);
  }
}

/** Show the body of a response, and a link to the type of its problem. */
async function showProblem(response, parts) {
  const text = await response.text();
  const fields = SHOWN.filter((name) => response.headers.has(name));
  const notes = fields.map((name) => `${name}: ${response.headers.get(name)}`);
  if (notes.length) parts.append(make("pre", { className: "hint" }, notes.join("\n")));
  let problem = null;
  try {
    problem = JSON.parse(text);
  } catch {} // not JSON
  parts.append(make("pre", {}, problem ? JSON.stringify(problem, null, 2) : text || "(empty)"));
  parts.append(meaningOf(problem, response));
}

function meaningOf(problem, { headers }) {
  const type = problem?.type;
  const verdict = (...words) => make("p", { className: "verdict hint" }, ...words);
  if (!headers.get("Content-Type")?.startsWith("application/problem+json"))
    return verdict("The default of FastAPI: this service has no problem documents.");
  if (type === "about:blank") return verdict("The status alone describes the error.");
  const link = make("a", { href: type, target: "_blank", rel: "noreferrer" }, type);
  return verdict("The type of this problem, with a remedy: ", link);
}

/** Show the lines of a stream as they arrive, and how it ends. */
async function showStream({ body, headers }, parts) {
  let count = 0;
  let failure = null;
  try {
    for await (const line of lines(body)) {
      const isError = line.startsWith('{"$error"');
      if (isError) failure = describe(JSON.parse(line).$error);
      else count += 1;
      parts.append(make("code", { className: isError ? "record error" : "record" }, line));
    }
  } catch (error) {
    // Chromium sometimes discards bytes that it has received but not delivered.
    const isCsv = headers.get("Content-Type").startsWith("text/csv");
    const missing = isCsv ? "a CSV has none" : "this browser has dropped the last bytes";
    const record = failure ? `the error record (${failure})` : `no error record (${missing})`;
    const words = `${count} lines and ${record} arrived, then fetch() was rejected: `;
    const why = "The response has no valid end, so that no client takes it for complete.";
    const verdict = `${words}${error.name}, ${error.message}. ${why}`;
    return parts.append(make("p", { className: "verdict" }, verdict));
  }
  parts.append(make("p", { className: "verdict error" }, "The stream has ended as if complete."));
}
