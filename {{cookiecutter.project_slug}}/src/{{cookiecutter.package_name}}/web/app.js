// The demo page's script. URLs are relative, so the page also works behind a path prefix.
// Data reaches the page as text nodes only: a file name or a message can never become markup.

const PAGE_SIZE = 200; // files asked for at a time
const LOG_SIZE = 200; // messages kept on screen
const PARALLEL_UPLOADS = 3; // a browser opens six connections to an HTTP/1.1 host: leave some free

const $ = (id) => document.getElementById(id);
const routes = new Set(); // what this service offers, as "get /files/*": filled by start()
class Problem extends Error {} // its message is written for the person at the page

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function say(id, text, failed = false) {
  $(id).textContent = text;
  $(id).classList.toggle("error", failed);
}

/** Words for a problem document, for FastAPI's {"detail": … or [{msg}]}, or for neither. */
function describe(problem, status = problem?.status) {
  const { title, detail, errors = [detail].flat(), request_id: request } = problem ?? {};
  const why = errors.map((e) => (e?.pointer ? `${e.pointer}: ${e.detail}` : (e?.msg ?? e)));
  const words = [...new Set([title, ...why])].filter(Boolean).join(": ") || "No reason given";
  const marks = [status && `HTTP ${status}`, request && `request ${request}`].filter(Boolean);
  return marks.length ? `${words} (${marks.join(", ")})` : words;
}

/** fetch() that throws a Problem for a refusal and for no answer at all. */
async function call(url, options) {
  const response = await fetch(url, options).catch(() => {
    throw new Problem("The service cannot be reached");
  });
  if (response.ok) return response;
  const body = await response.json().catch(() => null); // a proxy's HTML page, say
  throw Object.assign(new Problem(describe(body, response.status)), { status: response.status });
}

function bytes(count) {
  const step = Math.min(Math.floor(Math.log10(count || 1) / 3), 3);
  return `${(count / 1000 ** step).toFixed(step ? 1 : 0)} ${["bytes", "kB", "MB", "GB"][step]}`;
}

// ---- Uploads: XMLHttpRequest, because fetch() cannot report how much of a body was sent --------

const waiting = []; // functions that start an upload
let sending = 0; // uploads under way

function pump() {
  while (sending < PARALLEL_UPLOADS && waiting.length) waiting.shift()();
}

function upload(file) {
  const bar = make("progress", { max: 1, value: 0, ariaLabel: `Progress of ${file.name}` });
  const note = make("span", { className: "hint" }, `Waiting, ${bytes(file.size)}`);
  const text = make("div", { className: "what" }, make("strong", {}, file.name), bar, note);
  const button = make("button", { type: "button", ariaLabel: `Cancel ${file.name}` }, "Cancel");
  const row = make("li", {}, text, button);
  const xhr = Object.assign(new XMLHttpRequest(), { responseType: "json" });
  const finish = (state, words) => {
    row.dataset.state = state;
    note.textContent = words;
    Object.assign(button, { textContent: "Dismiss", ariaLabel: `Dismiss ${file.name}` });
    say("upload-status", `${file.name}: ${words}`, state === "failed");
  };
  button.onclick = () => {
    if (row.dataset.state !== "active") return row.remove();
    finish("cancelled", bar.value < 1 ? "Cancelled" : "Cancelled late: it may have been stored");
    xhr.abort();
  };
  xhr.upload.onprogress = ({ loaded, total }) => {
    bar.value = loaded / (total || 1);
    note.textContent = `${bytes(loaded)} of ${bytes(total)} sent`;
  };
  xhr.onload = () => {
    const record = xhr.response; // null when it is not JSON
    if (xhr.status !== 201 || !record) return finish("failed", describe(record, xhr.status));
    finish("done", `Uploaded, ${bytes(record.size)}`);
    addFile(record);
    say("files-status", `${rows.size} listed.`);
  };
  xhr.onerror = () => finish("failed", "Broken off: by the network, the service, or the disk");
  xhr.onloadend = () => {
    sending -= 1;
    pump();
  };
  waiting.push(() => {
    if (row.dataset.state !== "active") return; // cancelled while it waited
    sending += 1;
    xhr.open("POST", `files?${new URLSearchParams({ filename: file.name })}`);
    xhr.setRequestHeader("Content-Type", file.type || "application/octet-stream");
    xhr.send(file);
  });
  row.dataset.state = "active";
  $("upload-rows").append(row);
  pump();
}

/** The whole page takes a drop: after a near miss the browser would open the file instead. */
function drag(event) {
  if (!routes.has("post /files") || !event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  $("drop-zone").classList.toggle("over", event.type === "dragover");
  if (event.type === "drop") [...event.dataTransfer.files].forEach(upload);
}

// ---- Files: a JSON Lines stream, shown as it arrives -------------------------------------------

const rows = new Map(); // the row of each file id
let cursor = null; // of the last file the service listed
let listing = null; // the AbortController of the request under way
const zipUrl = () => `archive?id=${[...rows.keys()].slice(-1000).join("&id=")}`; // its limit

async function* lines(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  for (let rest = "", done = false; !done; ) {
    const chunk = await reader.read();
    done = chunk.done;
    const parts = (rest + decoder.decode(chunk.value, { stream: !done })).split("\n");
    if (!done) rest = parts.pop(); // the start of a line whose end is still to come
    yield* parts.filter((part) => part.trim());
  }
}

/** Go on after the last file seen: the next page, files that are new, or the rest of a cut list. */
async function loadFiles() {
  listing?.abort();
  const { signal } = (listing = new AbortController());
  const query = new URLSearchParams({ limit: PAGE_SIZE, ...(cursor && { after: cursor }) });
  let end = null;
  say("files-status", "Loading…");
  try {
    const { body } = await call(`files?${query}`, { signal });
    for await (const line of lines(body)) {
      const item = JSON.parse(line);
      if (item.$error) throw new Problem(describe(item.$error));
      if (item.$end) end = item.$end;
      else addFile(item);
      cursor = item.cursor ?? cursor;
    }
    if (!end) throw new TypeError("no last line");
    const more = end.count >= PAGE_SIZE ? ", and there may be more" : "";
    say("files-status", `${rows.size} listed${more}.`);
  } catch (error) {
    if (signal.aborted) return; // a newer request has taken over
    const why = error instanceof Problem ? error.message : "the list was cut off before its end";
    say("files-status", `Stopped at ${rows.size}: ${why}.`, true);
  }
}

/** The service lists the oldest first; each one goes on top, so the newest is shown first. */
function addFile(record) {
  const name = record.filename || record.id;
  const when = new Date(record.created_at).toLocaleString();
  const about = [bytes(record.size), record.content_type, when].filter(Boolean).join(" · ");
  const text = [make("strong", {}, name), make("span", { className: "hint" }, about)];
  const row = make("li", {}, make("div", { className: "what" }, ...text));
  if (routes.has("get /files/*")) {
    const link = { href: record.url, download: name, ariaLabel: `Download ${name}` };
    row.append(make("a", { className: "button", ...link }, "Download"));
  }
  if (routes.has("delete /files/*")) {
    const button = make("button", { type: "button", ariaLabel: `Delete ${name}` }, "Delete");
    button.onclick = () => deleteFile(record.id, name);
    row.append(button);
  }
  rows.get(record.id)?.remove();
  rows.set(record.id, row);
  $("file-rows").prepend(row);
}

async function deleteFile(id, name) {
  if (!confirm(`Delete ${name}?`)) return;
  try {
    await call(`files/${encodeURIComponent(id)}`, { method: "DELETE" });
    say("files-status", `${name}: deleted.`);
  } catch (error) {
    say("files-status", `${name}: ${error.message}.`, true);
    if (error.status !== 404) return; // 404: somebody else was faster, so the row goes as well
  }
  rows.get(id)?.remove();
  rows.delete(id);
  $("files-more").focus();
}

// ---- Real-time topic: one EventSource at a time ------------------------------------------------

const names = new Set(["message"]); // the kinds of event to listen for
const pending = []; // messages for the next frame: a fast topic must not freeze the page
let source = null;
const topicUrl = () => `topics/${encodeURIComponent($("topic").value)}/events`;
const show = ({ type, data = "" }) => log(type, data);

function log(kind, text) {
  const shown = text.length > 2000 ? `${text.slice(0, 2000)}… (${text.length} characters)` : text;
  const about = make("span", { className: "hint" }, `${new Date().toLocaleTimeString()} ${kind}`);
  if (!pending.length) requestAnimationFrame(flush);
  pending.push(make("div", { className: "message" }, about, make("span", {}, shown)));
  if (pending.length > LOG_SIZE) pending.shift();
}

function flush() {
  const box = $("message-log");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
  box.append(...pending.splice(0));
  while (box.childElementCount > LOG_SIZE) box.firstElementChild.remove();
  if (atEnd) box.scrollTop = box.scrollHeight; // do not pull away somebody who scrolled back
}

function stop(words, failed) {
  source?.close();
  source = null;
  if (document.activeElement === $("stop")) $("watch").focus(); // do not lose it with the button
  $("stop").hidden = true;
  say("topic-status", words, failed);
}

function watch(event) {
  event.preventDefault();
  const [topic, url] = [$("topic").value, topicUrl()];
  stop(`Connecting to ${topic}…`);
  const own = (source = new EventSource(url));
  $("stop").hidden = false;
  names.forEach((name) => own.addEventListener(name, show));
  own.addEventListener("reset", (e) => log("events were missed", JSON.parse(e.data).reason));
  own.addEventListener("reconnect", () => log("reconnect", "the server is restarting"));
  own.onopen = () => say("topic-status", `Watching ${topic}.`);
  own.onerror = async ({ data }) => {
    if (data) return log("error", describe(JSON.parse(data))); // sent by the service
    const lost = own.readyState === EventSource.CONNECTING; // the browser tries again by itself
    if (lost) return say("topic-status", `Lost the connection to ${topic}, trying again…`, true);
    // An EventSource does not say why it was refused, so ask again in a way that does.
    const answer = await call(url).catch((error) => error);
    answer.body?.cancel();
    const why = answer.message ?? "the service ended the stream";
    if (source === own) stop(`Not watching ${topic}: ${why}.`, true);
  };
}

async function publish(event) {
  event.preventDefault();
  if (!$("topic").reportValidity()) return;
  const name = $("publish-event").value.trim();
  if (name) source?.addEventListener(name, show);
  if (name) names.add(name);
  const query = name && `?${new URLSearchParams({ event: name })}`;
  const headers = { "Content-Type": $("publish-type").value };
  const options = { method: "POST", headers, body: $("publish-body").value };
  try {
    const { id, topic } = await (await call(topicUrl() + query, options)).json();
    say("publish-status", `Published to ${topic} as ${id}.`);
  } catch (error) {
    say("publish-status", `Not published: ${error.message}.`, true);
  }
}

// ---- The page ----------------------------------------------------------------------------------

async function checkReady() {
  const status = await fetch("health/ready").then((answer) => answer.status, () => 0);
  const words = { 0: "unreachable", 200: "ready", 503: "draining" }[status] ?? `HTTP ${status}`;
  if ($("ready").textContent === words) return; // setting it again would have it read out again
  $("ready").textContent = $("ready").dataset.state = words;
}

async function start() {
  const { info, paths } = await (await call("openapi.json")).json();
  document.title = $("title").textContent = info.title;
  for (const [path, methods] of Object.entries(paths)) {
    const shape = path.replace(/\{.*?\}/g, "*"); // a parameter's name is the service's business
    for (const method of Object.keys(methods)) routes.add(`${method} ${shape}`);
  }
  for (const part of document.querySelectorAll("[data-needs]")) {
    const found = part.dataset.needs.split(", ").some((route) => routes.has(route));
    part.hidden = part.disabled = !found; // even a hidden button would answer the Enter key
  }
  const some = document.querySelector("section:not([hidden])");
  say("page-status", some ? "" : "This service has none of the parts that this page can show.");
  if (routes.has("get /files")) loadFiles();
}

$("upload-input").onchange = ({ target }) => {
  [...target.files].forEach(upload);
  target.value = ""; // so that choosing the same file again is a change
};
for (const type of ["dragover", "dragleave", "drop"]) document.addEventListener(type, drag);
addEventListener("beforeunload", (event) => sending && event.preventDefault());
$("files-more").onclick = loadFiles;
$("files-zip").onclick = () => make("a", { href: zipUrl(), download: "" }).click();
$("watch-form").onsubmit = watch;
$("publish-form").onsubmit = publish;
$("log-clear").onclick = () => $("message-log").replaceChildren();
$("stop").onclick = () => stop("Stopped.");
setInterval(() => document.hidden || checkReady(), 10_000);
checkReady();
start().catch((error) => say("page-status", `Cannot read openapi.json: ${error.message}.`, true));
