// The upload of one file, from the choice of the file to its end.
//
//   waiting ─ active ─ done      away: the service cannot be reached, tries again by itself
//              │  └─── failed    kept: begun before a reload, needs its file
//   kept ── paused ─ cancelled

import { Problem } from "./page.js";
import { claim, drop, keep } from "./pending.js";
import { pause } from "./stream.js";
import { transport } from "./transports.js";

const DELAYS = [1, 2, 4, 8, 15]; // seconds before the next attempt
const TEMPORARY = [undefined, 408, 409, 423, 425, 429, 502, 503, 504];
const GONE = [404, 410];
const WINDOW = 4; // seconds over which the speed is smoothed
const SAMPLE = 0.25; // seconds between two values of the speed

export class Transfer {
  state = "waiting";
  words = ""; // describes the state
  sent = 0;
  speed = 0; // bytes per second
  isHurried = false; // the next attempt is made at once
  #sample = { at: 0, sent: 0 };
  #creating = null;
  #request = null; // the AbortController of the current attempts
  #claiming = null; // whether this tab has the lock of the upload, as a promise
  #release = () => {};

  /** `found` is a File, or the stored description of an unfinished upload with its `url`. */
  constructor(found, onchange) {
    this.name = found.name;
    this.size = found.size;
    this.lastModified = found.lastModified;
    this.onchange = onchange;
    this.url = found.url;
    this.file = found instanceof File ? found : null;
    if (!this.file) this.change("kept", "Asking the service…");
  }

  get isResumable() {
    return transport().isResumable;
  }

  get isOpen() {
    return !["done", "failed", "cancelled"].includes(this.state);
  }

  /** Whether a file has the name, size and date of this upload; a browser knows no more. */
  matches({ name, size, lastModified }) {
    return name === this.name && size === this.size && lastModified === this.lastModified;
  }

  change(state, words = "") {
    Object.assign(this, { state, words });
    this.onchange(this);
  }

  /** Send the file; try again while the service is away. Never throws. */
  async run() {
    const { signal } = (this.#request = new AbortController());
    for (let failures = 0; !signal.aborted; failures++) {
      const before = this.sent;
      this.change("active", "Connecting…");
      try {
        const record = await this.#attempt(signal);
        if (this.state === "cancelled") return null;
        this.#end("done", "Uploaded");
        return record;
      } catch (error) {
        if (signal.aborted) return null;
        if (this.sent > before) failures = 0;
        await this.#retry(error, DELAYS[Math.min(failures, DELAYS.length - 1)], signal);
      }
      if (this.state === "failed") return null;
    }
    return null;
  }

  async #attempt(signal) {
    const { file } = this;
    const onprogress = (offset) => (loaded) => this.#progress(offset + Math.min(loaded, file.size));
    if (!this.isResumable) {
      this.#restart(0);
      return transport().send(file, { signal, onprogress: onprogress(0) });
    }
    const isNew = !this.url;
    if (isNew) await (this.#creating ??= this.#create()); // once, also when it is paused meanwhile
    else if (!(await this.#claim())) throw new Problem("Another tab has this upload");
    const offset = isNew ? 0 : (await transport().find(this.url)).offset;
    signal.throwIfAborted();
    this.#restart(offset);
    const { url } = this;
    return transport().send(file, { url, offset, signal, onprogress: onprogress(offset) });
  }

  // Without a signal: an upload whose URL is lost could not be deleted.
  async #create() {
    try {
      this.url = await transport().create(this.file);
      keep(this.file, this.url);
      await this.#claim();
    } finally {
      this.#creating = null;
    }
  }

  // Once, also when it is paused meanwhile: the lock would refuse a second request of this tab.
  #claim() {
    return (this.#claiming ??= this.#lock());
  }

  async #lock() {
    const end = new Promise((resolve) => (this.#release = resolve));
    const isOurs = await claim(this.url, end);
    if (!isOurs) this.#claiming = null; // to try again
    return isOurs;
  }

  /** Wait before the next attempt, or fail if another one would not help. */
  async #retry(error, seconds, signal) {
    // A browser reports a file that has changed like a lost connection.
    const isReadable = await this.file.slice(0, 1).arrayBuffer().catch(() => null);
    if (signal.aborted) return; // paused or cancelled meanwhile
    if (!isReadable) return this.#fail("The file cannot be read, or was changed");
    if (GONE.includes(error.status) && this.url) {
      drop(this.url);
      this.url = undefined;
      return this.#fail("The service does not have this upload any more");
    }
    if (!this.isResumable || !TEMPORARY.includes(error.status)) return this.#fail(error.message);
    const hurry = () => (this.isHurried = true);
    addEventListener("online", hurry);
    this.isHurried = false;
    for (let left = seconds; left > 0 && !signal.aborted && !this.isHurried; left--) {
      this.change("away", `${error.message}. Trying again in ${left} s`);
      await pause(1000);
    }
    removeEventListener("online", hurry);
  }

  #fail(words) {
    this.#end("failed", words);
  }

  #end(state, words) {
    this.#release();
    this.#claiming = null;
    if (state !== "failed" && this.url) drop(this.url);
    this.change(state, words);
  }

  #restart(offset) {
    this.sent = offset;
    this.speed = 0;
    this.#sample = { at: performance.now(), sent: offset };
    this.change("active");
  }

  #progress(sent) {
    this.sent = sent;
    const now = performance.now();
    const seconds = (now - this.#sample.at) / 1000;
    if (seconds < SAMPLE && sent < this.size) return;
    const current = (sent - this.#sample.sent) / seconds;
    const weight = this.speed ? 1 - Math.exp(-seconds / WINDOW) : 1;
    this.speed += weight * (current - this.speed);
    this.#sample = { at: now, sent };
    if (this.state === "active") this.onchange(this);
  }

  /** Stop for now; the service keeps the received bytes. */
  async pause() {
    this.change("paused");
    this.#request?.abort();
    await this.refresh();
  }

  /** Get the number of bytes that the service has; returns null when the upload does not exist. */
  async refresh() {
    await this.#creating?.catch(() => {});
    if (!this.url) return {};
    try {
      const found = await transport().find(this.url);
      if (["paused", "kept"].includes(this.state)) this.sent = found.offset;
      this.onchange(this);
      return found;
    } catch (error) {
      if (GONE.includes(error.status)) return null;
      throw error;
    }
  }

  /** Stop, and delete the received bytes; return whether the service has deleted them. */
  async cancel() {
    const wasSent = this.state === "active" && this.sent === this.size;
    this.change("cancelled", "Cancelling…");
    this.#request?.abort();
    let words = wasSent ? "Cancelled, but it may have been stored" : "Cancelled";
    let isDeleted = true;
    try {
      const found = this.isResumable && (await this.refresh());
      if (found?.isComplete) words = "It was already stored";
      if (this.url) await transport().remove(this.url);
    } catch (error) {
      isDeleted = GONE.includes(error.status);
      if (!isDeleted) words = `Not deleted: ${error.message}`;
    }
    this.#end(isDeleted ? "cancelled" : "failed", words); // a failed upload stays stored
    return isDeleted;
  }
}
