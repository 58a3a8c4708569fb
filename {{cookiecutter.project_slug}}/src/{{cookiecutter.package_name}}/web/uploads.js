// Uploads: a queue, and a row for each upload with its progress and its controls.

import { addFile } from "./files.js";
import { $, bytes, duration, make, oncePerFrame, report, routes } from "./page.js";
import { drop, isClaimed, open, pending } from "./pending.js";
import { pause } from "./stream.js";
import { Transfer } from "./transfer.js";

const PARALLEL = 3; // leaves some of the six connections to an HTTP/1.1 host free
const ASK_AGAIN = 5_000; // milliseconds until the progress of an upload is asked for again
const waiting = []; // transfers
const rows = new Map(); // the row of each transfer
let sending = 0; // active transfers
let wanted = null; // the unfinished upload whose file the user is choosing

const SPOKEN = ["paused", "failed", "done", "cancelled"];
const ELSEWHERE = "It is open in another tab of this browser.";
const CHOOSE = "Choose the file again to continue";
const OTHER = "The chosen file is another one, by its name, size or date, and is a new upload";

function pump() {
  while (sending < PARALLEL && waiting.length) {
    const transfer = waiting.shift();
    if (transfer.state !== "waiting") continue; // cancelled
    sending += 1;
    transfer.run().then((record) => {
      sending -= 1;
      if (record) addFile(record);
      pump();
    });
  }
}

function start(transfer) {
  transfer.change("waiting");
  waiting.push(transfer);
  pump();
}

/** Upload a file, or continue the unfinished upload of the same file. */
function upload(file) {
  const known = [...rows.keys()].find((each) => each.state === "kept" && each.matches(file));
  const transfer = known ?? new Transfer(file, show);
  transfer.file = file;
  if (!known) add(transfer);
  start(transfer);
}

/** Add the row of a transfer. Its two buttons change with the state, and keep the focus. */
function add(transfer) {
  const bar = make("progress", { max: 1, value: 0, ariaLabel: `Progress of ${transfer.name}` });
  const note = make("span", { className: "hint" });
  const text = make("div", { className: "what" }, make("strong", {}, transfer.name), bar, note);
  const buttons = ["", "quiet"].map((className) => make("button", { type: "button", className }));
  const actions = make("div", { className: "actions" }, ...buttons);
  const row = make("li", { bar, note, buttons }, text, actions);
  rows.set(transfer, row);
  $("upload-rows").append(row);
  show(transfer);
}

function remove(transfer) {
  const row = rows.get(transfer);
  if (row.contains(document.activeElement)) $("upload-input").focus();
  row.remove();
  rows.delete(transfer);
  showSummary();
}

function show(transfer) {
  const row = rows.get(transfer);
  if (!row) return; // dismissed
  const isNew = row.dataset.state !== transfer.state;
  row.dataset.state = transfer.state;
  row.bar.value = transfer.size ? transfer.sent / transfer.size : Number(transfer.state === "done");
  row.note.textContent = noteOf(transfer);
  if (!isNew) return;
  const controls = controlsOf(transfer);
  row.buttons.forEach((button, i) => {
    const [label, onclick] = controls[i] || [];
    if (!label && button === document.activeElement) row.buttons[1 - i].focus();
    const ariaLabel = `${label} ${transfer.name}`;
    Object.assign(button, { hidden: !label, textContent: label ?? "", ariaLabel, onclick });
  });
  showSummary();
  if (!SPOKEN.includes(transfer.state)) return;
  report("upload-status", `${transfer.name}: ${row.note.textContent}`, transfer.state === "failed");
}

function noteOf({ state, words, sent, size, speed, seconds }) {
  const so = `${bytes(sent)} of ${bytes(size)}`;
  if (state === "waiting") return `Waiting, ${bytes(size)}`;
  if (state === "done") return `${words}, ${bytes(size)}`;
  if (state === "paused") return `Paused at ${so}`;
  if (state === "kept")
    return words || `${so} stored${seconds ? `, for ${duration(seconds)} more` : ""}. ${CHOOSE}.`;
  if (state !== "active" || words) return words;
  if (sent === size) return `${so} sent, waiting for the service…`;
  const left = speed && `${bytes(speed)}/s · ${duration((size - sent) / speed)} left`;
  return [so, left].filter(Boolean).join(" · ");
}

/** Return the one or two controls of a state: their labels and functions. */
function controlsOf(transfer) {
  const { state, isResumable, file, url } = transfer;
  const cancel = ["Cancel", () => transfer.cancel()];
  const again = ["Try again", () => start(transfer)];
  const dismiss = ["Dismiss", () => remove(transfer)];
  const discard = ["Discard", async () => (await transfer.cancel()) && remove(transfer)];
  if (state === "waiting") return [null, cancel];
  if (state === "active") return [isResumable && ["Pause", () => stop(transfer)], cancel];
  if (state === "away") return [["Try now", () => (transfer.isHurried = true)], cancel];
  if (state === "paused") return [["Resume", () => start(transfer)], cancel];
  if (state === "kept") return [["Choose file", () => askFile(transfer)], discard];
  if (state === "failed") return [file && again, url ? discard : dismiss];
  return [null, dismiss];
}

function askFile(transfer) {
  wanted = transfer;
  $("upload-input").click();
}

/** Upload the chosen files, and report if the file of an unfinished upload is not one of them. */
function take(files) {
  const asking = wanted;
  wanted = null;
  files.forEach(upload);
  if (asking?.state !== "kept") return;
  asking.change("kept", `${OTHER}. ${CHOOSE}.`);
  report("upload-status", `${asking.name}: ${OTHER}.`, true);
}

const stop = (transfer) => transfer.pause().catch(() => {}); // the service is away: it is paused

const over = () => [...rows.keys()].filter((each) => !each.isOpen && each.state !== "failed");
const showSummary = oncePerFrame(() => ($("upload-clear").hidden = over().length < 2));

/** List an upload that an earlier page has begun, until its file is chosen. */
async function follow(transfer) {
  add(transfer);
  while (rows.has(transfer) && transfer.state === "kept") {
    try {
      transfer.words = (await isClaimed(transfer.url)) ? ELSEWHERE : "";
      const found = transfer.words ? {} : await transfer.refresh();
      if (transfer.state !== "kept") return;
      if (!found || found.isComplete) return forgetUpload(transfer);
      transfer.seconds = found.seconds;
      show(transfer);
      if (!transfer.words) return;
    } catch (error) {
      transfer.words = `${error.message}. ${CHOOSE}.`;
      show(transfer);
      if (error.status === 401) return;
    }
    await pause(ASK_AGAIN);
  }
}

/** Remove the row of an upload that is a file now, or that the service does not have any more. */
function forgetUpload(transfer) {
  drop(transfer.url);
  remove(transfer);
}

/** Accept drops on the whole page: elsewhere the browser would open the file instead. */
function drag(event) {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  $("drop-zone").classList.toggle("over", event.type === "dragover");
  if (event.type === "drop") [...event.dataTransfer.files].forEach(upload);
}

/** Start this part of the page for a principal, without access control an empty one. */
export function openUploads(principal) {
  // Another tab may finish or discard an upload, or remove the key.
  open(principal, () => {
    const urls = pending().map((each) => each.url);
    const isOver = (each) => each.state === "kept" && !urls.includes(each.url);
    [...rows.keys()].filter(isOver).forEach(remove);
  });
  if (routes.has("post /uploads")) pending().forEach((each) => follow(new Transfer(each, show)));
  $("upload-clear").onclick = () => over().forEach(remove);
  $("upload-input").oncancel = () => (wanted = null);
  $("upload-input").onchange = ({ target }) => {
    take([...target.files]);
    target.value = ""; // so that selecting the same file again fires an event
  };
  for (const type of ["dragover", "dragleave", "drop"]) document.addEventListener(type, drag);
  addEventListener("beforeunload", (event) => sending && event.preventDefault());
}
