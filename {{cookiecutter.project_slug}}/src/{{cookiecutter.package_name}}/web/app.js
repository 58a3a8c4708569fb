// The demo page. URLs are relative, so that it also works under a path prefix.

import { followFiles, loadFiles, zipUrl } from "./files.js";
import { $, call, make, routes, report } from "./page.js";
import { followRun, startRun, stopRun } from "./runs.js";
import { publish, stop, watch } from "./topics.js";
import { drag, isSending, upload } from "./uploads.js";

async function checkReady() {
  const status = await fetch("health/ready").then((response) => response.status, () => 0);
  const words = { 0: "unreachable", 200: "ready", 503: "draining" }[status] ?? `HTTP ${status}`;
  if ($("ready").textContent === words) return; // otherwise screen readers announce it again
  $("ready").textContent = $("ready").dataset.state = words;
}

async function start() {
  const { info, paths } = await (await call("openapi.json")).json();
  document.title = $("title").textContent = info.title;
  for (const [path, methods] of Object.entries(paths)) {
    const shape = path.replace(/\{.*?\}/g, "*"); // ignore the names of parameters
    for (const method of Object.keys(methods)) routes.add(`${method} ${shape}`);
  }
  for (const part of document.querySelectorAll("[data-needs]")) {
    const found = part.dataset.needs.split(", ").some((route) => routes.has(route));
    part.hidden = part.disabled = !found; // disabled, because Enter can activate a hidden button
  }
  const some = document.querySelector("section:not([hidden])");
  report("page-status", some ? "" : "This service has none of the parts that this page can show.");
  if (routes.has("get /runs/*/events")) followRun();
  if (routes.has("post /files") && routes.has("get /topics/*/events")) await followFiles();
  if (routes.has("get /files")) loadFiles();
}

$("upload-input").onchange = ({ target }) => {
  [...target.files].forEach(upload);
  target.value = ""; // so that selecting the same file again fires an event
};
for (const type of ["dragover", "dragleave", "drop"]) document.addEventListener(type, drag);
addEventListener("beforeunload", (event) => isSending() && event.preventDefault());
$("files-more").onclick = loadFiles;
$("files-zip").onclick = () => make("a", { href: zipUrl(), download: "" }).click();
$("watch-form").onsubmit = watch;
$("stop").onclick = stop;
$("publish-form").onsubmit = publish;
$("log-clear").onclick = () => $("message-log").replaceChildren();
$("run-form").onsubmit = startRun;
$("run-stop").onclick = stopRun;
setInterval(() => document.hidden || checkReady(), 10_000);
checkReady();
start().catch((error) =>
  report("page-status", `Cannot read openapi.json: ${error.message}.`, true),
);
