// The demo page. URLs are relative, so that it also works under a path prefix.

import { ask, call, enter, forget, hasKey, permits, takeKey } from "./access.js";
import { followFiles, openFiles } from "./files.js";
import { openGallery } from "./gallery.js";
import { $, closeDialogs, refused, report, routes } from "./page.js";
import { clearRequests, loggedFetch } from "./requests.js";
import { followRun, startRun, stopRun } from "./runs.js";
import { openTopics } from "./topics.js";
import { openUploads } from "./uploads.js";

async function checkReady() {
  const status = await loggedFetch("health/ready").then((response) => response.status, () => 0);
  const words = { 0: "unreachable", 200: "ready", 503: "draining" }[status] ?? `HTTP ${status}`;
  report("ready", words);
  $("ready").dataset.state = words;
}

async function start() {
  const { info, paths, security: usual } = await (await call("openapi.json")).json();
  document.title = $("title").textContent = info.title;
  report("page-status", "");
  let scopes = ["admin"];
  let principal = "";
  if ("/access" in paths) {
    if (!hasKey()) return ask();
    ({ scopes, principal } = await (await call("access")).json());
    $("principal").textContent = principal;
    $("sender").hidden = false;
  }
  for (const [path, methods] of Object.entries(paths)) {
    const shape = path.replace(/\{.*?\}/g, "*"); // ignore the names of parameters
    for (const [method, { security = usual }] of Object.entries(methods))
      (permits(security, scopes) ? routes : refused).add(`${method} ${shape}`);
  }
  for (const part of document.querySelectorAll("[data-needs]")) {
    const found = part.dataset.needs.split(", ").some((route) => routes.has(route));
    part.hidden = part.disabled = !found; // disabled, because Enter can activate a hidden button
  }
  openGallery();
  if (routes.has("get /runs/*/events")) followRun();
  if (routes.has("post /files")) openUploads(principal);
  if (routes.has("post /runs/chat")) await openChat(principal);
  if (paths["/files"]?.post && routes.has("get /topics/*/events")) await followFiles();
  if (routes.has("get /files")) openFiles();
}

/** Load the script of the chat, which a service without the module does not have. */
async function openChat(principal) {
  const script = await import("./chat.js").catch(() => null);
  if (script) script.openChat(principal);
  else $("chat").hidden = true;
}

openTopics();
$("run-form").onsubmit = startRun;
$("run-stop").onclick = stopRun;
$("requests-clear").onclick = clearRequests;
setInterval(() => document.hidden || checkReady(), 10_000);
checkReady();
$("key-form").onsubmit = enter;
$("forget").onclick = forget;
closeDialogs();
addEventListener("hashchange", async () => (await takeKey()) && location.reload());
takeKey().then(start).catch((error) => {
  const isAsking = error.status === 401;
  report("page-status", isAsking ? "" : `Cannot read openapi.json: ${error.message}.`, !isAsking);
});
