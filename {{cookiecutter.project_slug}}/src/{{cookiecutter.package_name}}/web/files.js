// Files: the list is a JSON Lines stream, shown as it arrives and updated by events.

import { call, hasKey, post } from "./access.js";
import { $, Problem, bytes, describe, make, routes, report } from "./page.js";
import { LOST, follow, lines } from "./stream.js";

const PAGE_SIZE = 200; // files per request
const LIVE = "Live: changes appear immediately.";
const rows = new Map(); // the row of each file id
let cursor = null; // cursor of the last listed file
let listing = null; // the AbortController of the current request

const fileUrl = (id) => `files/${encodeURIComponent(id)}`;

/** Continue after the last listed file, with the next page, new files or the rest of the list. */
export async function loadFiles() {
  listing?.abort();
  const { signal } = (listing = new AbortController());
  const query = new URLSearchParams({ limit: PAGE_SIZE, ...(cursor && { after: cursor }) });
  let end = null;
  report("files-status", "Loading…");
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
    report("files-status", `${rows.size} listed${more}.`);
  } catch (error) {
    if (signal.aborted) return; // a newer request has replaced this one
    const why = error instanceof Problem ? error.message : "the list was interrupted";
    report("files-status", `Stopped at ${rows.size}: ${why}.`, true);
  }
}

/** Insert a file at the top: the service lists the oldest first, the page the newest first. */
function showFile(record) {
  if (rows.has(record.id)) return; // a stored file never changes
  const name = record.filename || record.id;
  const when = new Date(record.created_at).toLocaleString();
  const about = [bytes(record.size), record.content_type, when].filter(Boolean).join(" · ");
  const text = [make("strong", {}, name), make("span", { className: "hint" }, about)];
  const row = make("li", {}, make("div", { className: "what" }, ...text));
  if (routes.has("get /files/*")) {
    const link = { href: fileUrl(record.id), download: name, ariaLabel: `Download ${name}` };
    const anchor = make("a", { className: "button", ...link }, "Download");
    anchor.onclick = (event) => {
      if (!hasKey()) return; // the browser follows the link
      event.preventDefault();
      save(name, async () => (await post(`${fileUrl(record.id)}/links`, {})).url);
    };
    row.append(anchor);
  }
  if (routes.has("delete /files/*")) {
    const button = make("button", { type: "button", ariaLabel: `Delete ${name}` }, "Delete");
    button.onclick = () => deleteFile(record.id, name);
    row.append(button);
  }
  rows.set(record.id, row);
  $("file-rows").prepend(row);
}

/** Download from the URL that a function returns. */
async function save(name, find) {
  try {
    make("a", { href: await find(), download: name }).click();
  } catch (error) {
    report("files-status", `Not downloaded: ${error.message}.`, true);
  }
}

// A browser downloads without the header that has the key. A signed link works for a file, also if
// the download is resumed; an archive needs a ticket for its single request.
export const saveAll = () =>
  save("", async () => {
    const ids = [...rows.keys()].slice(-1000); // the limit
    const { ticket } = hasKey() ? await post("tickets", { path: "/archive" }) : {};
    return `archive?id=${ids.join("&id=")}${ticket ? `&ticket=${ticket}` : ""}`;
  });

export function addFile(record) {
  if (rows.has(record.id)) return; // its upload and an event both report it
  showFile(record);
  report("files-status", `${record.filename || record.id}: stored. ${rows.size} listed.`);
}

function removeFile(id, name) {
  const row = rows.get(id);
  if (!row) return;
  const hadFocus = row.contains(document.activeElement);
  row.remove();
  rows.delete(id);
  if (hadFocus) $("files-more").focus();
  report("files-status", `${name}: deleted. ${rows.size} listed.`);
}

async function deleteFile(id, name) {
  if (!confirm(`Delete ${name}?`)) return;
  try {
    await call(fileUrl(id), { method: "DELETE" });
  } catch (error) {
    // 404: already deleted by another client; remove the row as well
    if (error.status !== 404) return report("files-status", `${name}: ${error.message}.`, true);
  }
  removeFile(id, name);
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
    if (event === "file.deleted") removeFile(record.id, record.filename || record.id);
  };
  const ongap = () => {
    rows.clear();
    $("file-rows").replaceChildren();
    cursor = null;
    loadFiles();
  };
  const onstate = (isLive) => report("files-live", isLive ? LIVE : LOST, !isLive);
  await follow("files", { topics: ["files"], onevent, ongap, onstate }).catch((error) =>
    report("files-live", `Not live: ${error.message}`, true),
  );
}
