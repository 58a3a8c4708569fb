// Uploads with XMLHttpRequest, because fetch() does not report the progress of a body.

import { ask, credentials } from "./access.js";
import { addFile } from "./files.js";
import { $, bytes, describe, make, routes, report } from "./page.js";

const PARALLEL = 3; // leaves some of the six connections to an HTTP/1.1 host free
const waiting = []; // functions that start an upload
let sending = 0; // active uploads

export const isSending = () => sending > 0;

function pump() {
  while (sending < PARALLEL && waiting.length) waiting.shift()();
}

export function upload(file) {
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
    report("upload-status", `${file.name}: ${words}`, state === "failed");
  };
  button.onclick = () => {
    if (row.dataset.state !== "active") return row.remove();
    finish("cancelled", bar.value < 1 ? "Cancelled" : "Cancelled, but it may have been stored");
    xhr.abort();
  };
  xhr.upload.onprogress = ({ loaded, total }) => {
    bar.value = loaded / (total || 1);
    note.textContent = `${bytes(loaded)} of ${bytes(total)} sent`;
  };
  xhr.onload = () => {
    const record = xhr.response; // null when it is not JSON
    if (xhr.status === 401) ask(`${describe(record, 401)}.`);
    if (xhr.status !== 201 || !record) return finish("failed", describe(record, xhr.status));
    finish("done", `Uploaded, ${bytes(record.size)}`);
    addFile(record);
  };
  xhr.onerror = () => finish("failed", "Interrupted by the network, the service, or the disk");
  xhr.onloadend = () => {
    sending -= 1;
    pump();
  };
  waiting.push(() => {
    if (row.dataset.state !== "active") return; // cancelled while it waited
    sending += 1;
    xhr.open("POST", `files?${new URLSearchParams({ filename: file.name })}`);
    const headers = { "Content-Type": file.type || "application/octet-stream", ...credentials() };
    Object.entries(headers).forEach((field) => xhr.setRequestHeader(...field));
    xhr.send(file);
  });
  row.dataset.state = "active";
  $("upload-rows").append(row);
  pump();
}

/** Accept drops on the whole page: elsewhere the browser would open the file instead. */
export function drag(event) {
  if (!routes.has("post /files") || !event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  $("drop-zone").classList.toggle("over", event.type === "dragover");
  if (event.type === "drop") [...event.dataTransfer.files].forEach(upload);
}
