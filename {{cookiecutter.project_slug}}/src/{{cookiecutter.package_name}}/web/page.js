// What all parts of the page use.
// Data reaches the page as text nodes only: a file name or a message can never become markup.

export const $ = (id) => document.getElementById(id);
export const routes = new Set(); // what this service offers, as "get /files/*": filled by app.js
export class Problem extends Error {} // its message is written for the person at the page

export function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function say(id, text, failed = false) {
  $(id).textContent = text;
  $(id).classList.toggle("error", failed);
}

/** Words for a problem document, for FastAPI's {"detail": … or [{msg}]}, or for neither. */
export function describe(problem, status = problem?.status) {
  const { title, detail, errors = [detail].flat(), request_id: request } = problem ?? {};
  const why = errors.map((e) => (e?.pointer ? `${e.pointer}: ${e.detail}` : (e?.msg ?? e)));
  const words = [...new Set([title, ...why])].filter(Boolean).join(": ") || "No reason given";
  const marks = [status && `HTTP ${status}`, request && `request ${request}`].filter(Boolean);
  return marks.length ? `${words} (${marks.join(", ")})` : words;
}

/** fetch() that throws a Problem for a refusal and for no answer at all. */
export async function call(url, options) {
  const response = await fetch(url, options).catch(() => {
    throw new Problem("The service cannot be reached");
  });
  if (response.ok) return response;
  const body = await response.json().catch(() => null); // a proxy's HTML page, say
  throw Object.assign(new Problem(describe(body, response.status)), { status: response.status });
}

export function bytes(count) {
  const step = Math.min(Math.floor(Math.log10(count || 1) / 3), 3);
  return `${(count / 1000 ** step).toFixed(step ? 1 : 0)} ${["bytes", "kB", "MB", "GB"][step]}`;
}
