// The selection in the list of files, and what can be done with it.

import { call, hasKey, post } from "./access.js";
import { $, bytes, confirmed, make, oncePerFrame, report, routes } from "./page.js";
import { fileUrl } from "./preview.js";

const MOST = 1000; // files of an archive
const boxes = new Map(); // the checkbox of each record
const showSoon = oncePerFrame(showSelection); // a list has many records

const chosen = () => [...boxes].filter(([, box]) => box.checked).map(([record]) => record);

/** Return the checkbox of a file, if something can be done with a selection. */
export function checkbox(record, name) {
  if (!routes.has("get /archive") && !routes.has("delete /files/*")) return "";
  const about = { type: "checkbox", ariaLabel: `Select ${name}`, onchange: showSelection };
  const box = make("input", about);
  boxes.set(record, box);
  showSoon();
  return box;
}

export function unlist(record) {
  boxes.delete(record);
  showSoon();
}

export function unlistAll() {
  boxes.clear();
  showSoon();
}

function showSelection() {
  const [records, all] = [chosen(), $("files-all")];
  const size = records.reduce((sum, each) => sum + each.size, 0);
  $("files-selection").hidden = !boxes.size;
  all.checked = records.length > 0 && records.length === boxes.size;
  all.indeterminate = records.length > 0 && !all.checked;
  const words = records.length ? `${records.length} selected, ${bytes(size)}` : "";
  report("files-selected", words);
  for (const id of ["files-zip", "files-delete"])
    $(id).setAttribute("aria-disabled", String(!records.length));
}

// A browser downloads without the header that has the key: an archive needs a ticket for its only
// request.
async function download() {
  const records = chosen();
  if (!records.length) return;
  if (records.length > MOST)
    return report("files-status", `An archive has at most ${MOST} files.`, true);
  try {
    const { ticket } = hasKey() ? await post("tickets", { path: "/archive" }) : {};
    const query = new URLSearchParams(records.map(({ id }) => ["id", id]));
    if (ticket) query.set("ticket", ticket);
    make("a", { href: `archive?${query}`, download: "" }).click();
  } catch (error) {
    report("files-status", `No archive: ${error.message}.`, true);
  }
}

/** Delete files after a confirmation; `onremove` is called with each file that is gone. */
export async function remove(records, onremove) {
  const names = records.slice(0, 5).map((each) => each.filename || each.id);
  const rest = records.length > names.length ? ` and ${records.length - names.length} more` : "";
  const question = records.length > 1 ? `Delete ${records.length} files?` : `Delete ${names[0]}?`;
  const details = records.length > 1 ? `${names.join(", ")}${rest}. ` : "";
  if (!(await confirmed(question, `${details}This cannot be undone.`, "Delete"))) return;
  const refused = [];
  for (const [i, record] of records.entries()) {
    if (i) report("files-status", `Deleting ${i + 1} of ${records.length}…`);
    try {
      await call(fileUrl(record.id), { method: "DELETE" });
    } catch (error) {
      // 404: already deleted by another client; remove the row as well
      if (error.status !== 404) refused.push([record, error]);
      if (error.status !== 404) continue;
    }
    onremove(record);
  }
  if (!refused.length) return;
  const [[record, error]] = refused;
  const others = refused.length > 1 ? ` and ${refused.length - 1} others` : "";
  const name = record.filename || record.id;
  report("files-status", `Not deleted: ${name}${others}. ${error.message}.`, true);
}

export function openSelection(onremove) {
  $("files-all").onchange = ({ target: { checked } }) => {
    boxes.forEach((box) => (box.checked = checked));
    showSelection();
  };
  $("files-zip").onclick = download;
  $("files-delete").onclick = () => chosen().length && remove(chosen(), onremove);
}
