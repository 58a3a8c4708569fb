// Runs: start the example, follow it to its end, stop it. The URL of the page contains the id of
// the run, so that a reload or another tab can follow it again.

import { call, post } from "./access.js";
import { $, describe, make, report } from "./page.js";
import { LOST, subscribe } from "./stream.js";

const ENDS = { complete: "Finished.", stopped: "Stopped.", interrupted: "Interrupted." };
let source = null; // the AbortController of the stream of the run

const runId = () => new URLSearchParams(location.hash.slice(1)).get("run");
const runUrl = (what) => `runs/${encodeURIComponent(runId())}/${what}`;

export async function startRun(event) {
  event.preventDefault();
  if (isActive()) return;
  $("run-start").ariaDisabled = true; // until the service responds
  const [count, interval] = ["run-count", "run-interval"].map((id) => $(id).valueAsNumber);
  try {
    const { id } = await post("runs/counter", { count, interval });
    history.replaceState(null, "", `#run=${id}`);
    followRun();
  } catch (error) {
    arrange();
    report("run-status", `Not started: ${error.message}.`, true);
  }
}

export async function stopRun() {
  report("run-status", "Stopping…");
  await call(runUrl("stop"), { method: "POST" }).catch((error) =>
    report("run-status", `Not stopped: ${error.message}.`, true),
  );
}

const isActive = () => $("run-start").ariaDisabled === "true";

/** Show the buttons that have an effect. "Start" stays, so that a second click does not stop. */
function arrange(isRunning = false) {
  $("run-start").ariaDisabled = isRunning; // unlike a disabled button it keeps the focus
  if (!isRunning && document.activeElement === $("run-stop")) $("run-start").focus();
  $("run-stop").hidden = !isRunning;
}

/** Show an event as it was sent, with its id, which no two events of a stream share. */
function show(text, id) {
  const parts = [make("span", {}, text), make("span", { className: "hint" }, id)];
  const box = $("run-events");
  box.append(make("li", {}, ...parts));
  box.scrollTop = box.scrollHeight;
}

/** Follow the run in the URL of the page, if any, from its beginning to its end. */
export async function followRun() {
  if (!runId()) return;
  source?.abort();
  const own = (source = new AbortController());
  const finish = (words, failed) => {
    if (own.signal.aborted) return; // it has ended, or another run is followed
    own.abort();
    arrange();
    report("run-status", words, failed);
  };
  $("run-bar").value = 0;
  $("run-so-far").textContent = "";
  $("run-progress").hidden = false;
  $("run-events").replaceChildren();
  arrange(true);
  const onevent = (event, text, id) => {
    const data = JSON.parse(text);
    show(event === "message" ? text : `${event}: ${text}`, id);
    if (event === "message") {
      Object.assign($("run-bar"), { max: data.of, value: data.number });
      $("run-so-far").textContent = `${data.number} of ${data.of}`;
    }
    if (event === "end")
      finish(ENDS[data.status] ?? `Failed: ${describe(data.problem)}.`, !ENDS[data.status]);
  };
  const onstate = (isLive) => report("run-status", isLive ? "Running…" : LOST, !isLive);
  const url = (id) => runUrl(`events?${new URLSearchParams(id && { last_event_id: id })}`);
  try {
    await subscribe(url, "", { signal: own.signal, onevent, onstate });
    finish("The run no longer exists.", true);
  } catch (error) {
    finish(`${error.message}.`, true);
  }
}
