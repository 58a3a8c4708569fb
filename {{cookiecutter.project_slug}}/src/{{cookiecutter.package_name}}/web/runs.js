// Runs: start the example, follow it to its end, stop it. The URL of the page contains the id of
// the run, so that a reload or another tab can follow it again.

import { $, call, describe, report } from "./page.js";
import { LOST } from "./stream.js";

const ENDS = { complete: "Finished.", stopped: "Stopped.", interrupted: "Interrupted." };
let source = null; // the EventSource of the run, separate from the stream of the page

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
    report("run-status", `Not started: ${error.message}.`, true);
  }
}

export async function stopRun() {
  report("run-status", "Stopping…");
  await call(runUrl("stop"), { method: "POST" }).catch((error) =>
    report("run-status", `Not stopped: ${error.message}.`, true),
  );
}

/** Show one button and hide another; move the focus if the hidden one had it. */
function swap(shown, hidden) {
  $(shown).hidden = false;
  if (document.activeElement === $(hidden)) $(shown).focus();
  $(hidden).hidden = true;
}

/** Follow the run in the URL of the page, if any, from its beginning to its end. */
export function followRun() {
  if (!runId()) return;
  source?.close();
  const own = (source = new EventSource(runUrl("events")));
  const finish = (words, failed) => {
    own.close(); // otherwise the browser reconnects
    swap("run-start", "run-stop");
    report("run-status", words, failed);
  };
  $("run-bar").value = 0;
  $("run-so-far").textContent = "";
  $("run-progress").hidden = false;
  swap("run-stop", "run-start");
  own.onopen = () => report("run-status", "Running…");
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
    if (own.readyState === EventSource.CONNECTING) return report("run-status", LOST, true);
    // An EventSource does not report the cause of a failure: repeat the request with fetch().
    const result = await call(own.url).catch((error) => error);
    result.body?.cancel();
    finish(result.message ?? "The run no longer exists.", true);
  };
}
