// Functions that all parts of the page use.
// Data is inserted as text nodes only, so that a file name or a message is never parsed as markup.

export const $ = (id) => document.getElementById(id);
export const routes = new Set(); // routes of the service, such as "get /files/*"
export const refused = new Set(); // routes that the key does not permit
export class Problem extends Error {} // the page shows its message to the user

// Not randomUUID(), which needs HTTPS.
export const random = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

export function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Show the status of a part. Screen readers announce each change of the text, also to the same text. */
export function report(id, text, failed = false) {
  const { classList } = $(id);
  if ($(id).textContent === text && classList.contains("error") === failed) return;
  $(id).textContent = text;
  classList.toggle("error", failed);
}

/** Return a function that calls `show` in the next frame, once for all of its calls before. */
export function oncePerFrame(show) {
  let frame = 0;
  return () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      show();
    });
  };
}

/** Describe a problem document, FastAPI's {"detail": … or [{msg}]}, or any other body. */
export function describe(problem, status = problem?.status) {
  const { title, detail, errors = [detail].flat(), request_id: request } = problem ?? {};
  const why = errors.map((e) => (e?.pointer ? `${e.pointer}: ${e.detail}` : (e?.msg ?? e)));
  const words = [...new Set([title, ...why])].filter(Boolean).join(": ") || "No reason given";
  const marks = [status && `HTTP ${status}`, request && `request ${request}`].filter(Boolean);
  return marks.length ? `${words} (${marks.join(", ")})` : words;
}

export function bytes(count) {
  const step = Math.min(Math.floor(Math.log10(count || 1) / 3), 3);
  return `${(count / 1000 ** step).toFixed(step ? 1 : 0)} ${["bytes", "kB", "MB", "GB"][step]}`;
}

/** Describe seconds with the largest unit that has a value of at least 2. */
export function duration(seconds) {
  const units = [[172_800, 86_400, "days"], [7200, 3600, "h"], [120, 60, "min"], [0, 1, "s"]];
  const [, unit, name] = units.find(([least]) => seconds >= least);
  return `${Math.ceil(seconds / unit)} ${name}`;
}

/** Let the buttons of dialogs close them. */
export function closeDialogs() {
  for (const button of document.querySelectorAll("dialog [data-close]"))
    button.onclick = () => button.closest("dialog").close();
}

/** Ask a question; resolve with whether the user has confirmed it. */
export function confirmed(question, details, action) {
  $("confirm-title").textContent = question;
  $("confirm-details").textContent = details;
  $("confirm-do").textContent = action;
  return new Promise((resolve) => {
    $("confirm-do").onclick = () => $("confirm").close("yes");
    $("confirm").onclose = () => resolve($("confirm").returnValue === "yes");
    $("confirm").returnValue = "";
    $("confirm").showModal();
  });
}
