// Runs: start the example, follow it to its end, stop it. Its id is in the address of the page, so
// that a reload finds it again, and another tab that is given the address.

import { $, call, describe, say } from "./page.js";
import { LOST } from "./stream.js";

const ENDS = { complete: "Finished.", stopped: "Stopped.", interrupted: "Interrupted." };
let source = null; // beside the page's one stream, and only until the end of the run

const runId = () => new URLSearchParams(location.hash.slice(1)).get("run");
const runUrl = (what) => `runs/${encodeURIComponent(runId())}/${what}`;

export async function startRun(event) {
  event.preventDefault();
  const [count, interval] = ["run-count", "run-interval"].map((id) => $(id).valueAsNumber);
  const headers = { "Content-Type": "application/json" };
  const options = { method: "POST", headers, body: JSON.stringify({ count, interval }) };
  try {
    const { id } = await (await call("runs/counter", options)).json();
    history.replaceState(null, "", `#run=${id}`);
    followRun();
  } catch (error) {
    say("run-status", `Not started: ${error.message}.`, true);
  }
}

export async function stopRun() {
  say("run-status", "Stopping…");
  await call(runUrl("stop"), { method: "POST" }).catch((error) =>
    say("run-status", `Not stopped: ${error.message}.`, true),
  );
}

/** Show one of two buttons, with the focus if the other had it. */
function swap(shown, hidden) {
  $(shown).hidden = false;
  if (document.activeElement === $(hidden)) $(shown).focus();
  $(hidden).hidden = true;
}

/** Follow the run in the page's address, if there is one, from its beginning to its end. */
export function followRun() {
  if (!runId()) return;
  source?.close();
  const own = (source = new EventSource(runUrl("events")));
  const finish = (words, failed) => {
    own.close(); // or the browser would connect again
    swap("run-start", "run-stop");
    say("run-status", words, failed);
  };
  $("run-bar").value = 0;
  $("run-so-far").textContent = "";
  $("run-progress").hidden = false;
  swap("run-stop", "run-start");
  own.onopen = () => say("run-status", "Running…");
  own.onmessage = ({ data }) => {
    const { number, of } = JSON.parse(data);
    Object.assign($("run-bar"), { max: of, value: number });
    $("run-so-far").textContent = `${number} of ${of}`;
  };
  own.addEventListener("end", ({ data }) => {
    const { status, problem } = JSON.parse(data);
    finish(ENDS[status] ?? `Failed: ${describe(problem)}.`, !ENDS[status]);
  });
  own.onerror = async () => {
    if (own.readyState === EventSource.CONNECTING) return say("run-status", LOST, true);
    // An EventSource does not say why it was refused, so ask again in a way that does.
    const answer = await call(own.url).catch((error) => error);
    answer.body?.cancel();
    finish(answer.message ?? "The service does not know this run any more.", true);
  };
}
