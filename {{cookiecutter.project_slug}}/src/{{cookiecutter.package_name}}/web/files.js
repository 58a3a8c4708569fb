// Files: the list is a JSON Lines stream, shown as it arrives and updated by events.

import { call, hasKey } from "./access.js";
import { $, Problem, bytes, describe, make, routes, report } from "./page.js";
import { fileUrl, kindOf, linkTo, preview } from "./preview.js";
import { checkbox, openSelection, remove, unlist, unlistAll } from "./selection.js";
import { follow, lines } from "./stream.js";

const PAGE_SIZE = 200; // files per request
const LIVE = "Live: changes appear immediately.";
const STYLE = { dateStyle: "short", timeStyle: "short" };
const rows = new Map(); // the row of each file id
let cursor = null; // cursor of the last listed file
let listing = null; // the AbortController of the current request

/** Continue after the last listed file, with the next page, new files or the rest of the list. */
async function loadFiles() {
  listing?.abort();
  const { signal } = (listing = new AbortController());
  const query = new URLSearchParams({ limit: PAGE_SIZE, ...(cursor && { after: cursor }) });
  let end = null;
  const show = (state, words, next) => {
    $("file-rows").dataset.state = state;
    $("file-rows").ariaBusy = String(state === "loading");
    $("files-more").textContent = next;
    report("files-status", words, state === "failed");
    showCount();
  };
  show("loading", "Loading…", "Load newer");
  try {
    const { body } = await call(`files?${query}`, { signal });
    for await (const line of lines(body)) {
      if (!line) continue;
      const item = JSON.parse(line);
      if (item.$error) throw new Problem(describe(item.$error));
      if (item.$end) end = item.$end;
      else showFile(item);
      cursor = item.cursor ?? cursor;
    }
    if (!end) throw new TypeError("no last line");
    const more = end.next ? ", and there are more" : "";
    show("loaded", `${rows.size} listed${more}.`, end.next ? "Load more" : "Load newer");
  } catch (error) {
    if (signal.aborted) return; // a newer request has replaced this one
    const why = error instanceof Problem ? error.message : "the list was interrupted";
    show("failed", `Stopped at ${rows.size}: ${why}.`, "Try again");
  }
}

/** Insert a file: the service lists the oldest first, the page the newest first. */
function showFile(record) {
  if (rows.has(record.id)) return; // a stored file never changes
  const name = nameOf(record);
  const when = new Date(record.created_at).toLocaleString([], STYLE);
  const facts = [bytes(record.size), record.content_type, when].filter(Boolean);
  const about = facts.map((each) => each.replace(/\s/g, "\u00a0")).join(" · ");
  const title = make("strong", {}, name);
  const hint = make("span", { className: "hint" }, about);
  const text = make("div", { className: "what" }, title, hint);
  const actions = make("div", { className: "actions" });
  const row = make("li", { record }, checkbox(record, name), text, actions);
  if (routes.has("get /files/*")) {
    const show = () => preview(record, name, downloads(record, name));
    if (kindOf(record)) title.replaceChildren(control(`Preview ${name}`, name, "link", show));
    actions.append(...downloads(record, name));
  }
  const ask = () => remove([record], removeFile);
  if (routes.has("delete /files/*"))
    actions.append(control(`Delete ${name}`, "Delete", "quiet", ask));
  rows.set(record.id, row);
  place(row);
  showCount();
}

/** Insert a row in the order of the ids, which is that of time. Usually it is the newest one. */
function place(row) {
  let next = $("file-rows").firstElementChild;
  while (next?.record.id > row.record.id) next = next.nextElementSibling;
  $("file-rows").insertBefore(row, next);
}

const nameOf = (record) => record.filename || record.id;

const control = (ariaLabel, text, className, onclick) =>
  make("button", { type: "button", className, ariaLabel, onclick }, text);

/** Return the controls that save a file under its own name, and under another one. */
function downloads(record, name) {
  const about = { href: fileUrl(record.id), download: name, ariaLabel: `Download ${name}` };
  const anchor = make("a", { className: "button", ...about }, "Download");
  anchor.onclick = (event) => {
    if (!hasKey()) return; // the browser follows the link
    event.preventDefault();
    save(record);
  };
  const ask = () => askName(name, (filename) => save(record, { filename }));
  return [anchor, control(`Save as… ${name}`, "Save as…", "quiet", ask)];
}

/** Ask for the name of a download; call a function with it. */
export function askName(name, save) {
  const field = $("save-name");
  field.value = name;
  $("save-form").onsubmit = (event) => {
    event.preventDefault();
    $("save").close();
    save(field.value.trim());
  };
  $("save").showModal();
  const [stem] = /^.[^.]*/.exec(name) ?? [name];
  field.setSelectionRange(0, stem.length); // the extension usually stays
}

async function save(record, query) {
  try {
    make("a", { href: await linkTo(record, query), download: "" }).click();
  } catch (error) {
    report("files-status", `Not downloaded: ${error.message}.`, true);
  }
}

export function addFile(record) {
  if (rows.has(record.id)) return; // its upload and an event both report it
  showFile(record);
  report("files-status", `${nameOf(record)}: stored. ${rows.size} listed.`);
}

function removeFile({ id, filename }) {
  const row = rows.get(id);
  if (!row) return;
  const hadFocus = row.contains(document.activeElement);
  unlist(row.record);
  row.remove();
  rows.delete(id);
  if (hadFocus) $("files-more").focus();
  showCount();
  report("files-status", `${filename || id}: deleted. ${rows.size} listed.`);
}

/** Show that there are no files, after a list that was loaded. */
function showCount() {
  $("files-empty").hidden = rows.size > 0 || $("file-rows").dataset.state !== "loaded";
}

/** Return the record in an event, or {} for data that is not one. */
function recordOf(data) {
  try {
    return (typeof data === "string" ? JSON.parse(data) : data) ?? {};
  } catch {
    return {};
  }
}

/** Update the list by events. Load the list afterwards, so that no change is missed. */
export async function followFiles() {
  const onevent = ({ event, data }) => {
    const record = recordOf(data);
    if (event === "file.stored" && record.id) addFile(record);
    if (event === "file.deleted") removeFile(record);
  };
  const ongap = () => {
    rows.clear();
    unlistAll();
    $("file-rows").replaceChildren();
    cursor = null;
    loadFiles();
  };
  const onstate = (isLive, why) => report("files-live", isLive ? LIVE : why, !isLive);
  await follow("files", { topics: ["files"], onevent, ongap, onstate }).catch((error) =>
    report("files-live", `Not live: ${error.message}`, true),
  );
}

export function openFiles() {
  $("files-more").onclick = loadFiles;
  openSelection(removeFile);
  loadFiles();
}
