// The preview of a file, in a dialog. The browser loads images, sound and video by itself, a text
// is read with a request for its first bytes.

import { call, hasKey, post } from "./access.js";
import { $, Problem, bytes, make } from "./page.js";

const SAMPLE = 64 * 1024; // bytes of a text that are shown
// Types that the service lets a browser display, with ?inline=1; others are attachments.
const KINDS = {
  image: /^image\/(png|jpeg|gif|webp|avif)$/,
  sound: /^audio\/[\w.-]+$/,
  video: /^video\/[\w.-]+$/,
  paper: /^application\/pdf$/,
  text: /^text\/|^application\/(json|jsonl|x-ndjson|xml|javascript|yaml|toml|sql)$|[+](json|xml)$/,
};

let turn = null; // of the open preview: one that loads slowly must not appear in a later one

export const fileUrl = (id) => `files/${encodeURIComponent(id)}`;
const typeOf = ({ content_type: type }) => type.split(";")[0].trim().toLowerCase();

export function kindOf(record) {
  return Object.keys(KINDS).find((kind) => KINDS[kind].test(typeOf(record)));
}

/** Return the URL of a file for a browser, which cannot send the key: a signed link. */
export async function linkTo({ id }, query = {}) {
  const found = hasKey() ? new URL((await post(`${fileUrl(id)}/links`, {})).url).searchParams : [];
  const all = new URLSearchParams([...found, ...Object.entries(query)]);
  return all.size ? `${fileUrl(id)}?${all}` : fileUrl(id);
}

const player = (tag, src, ariaLabel) =>
  loaded(make(tag, { src, ariaLabel, controls: true }), "loadedmetadata");

const BUILDERS = {
  image: (src, alt) => loaded(make("img", { src, alt }), "load"),
  sound: (src, name) => player("audio", src, name),
  video: (src, name) => player("video", src, name),
  paper: (href) => {
    const link = { className: "button", href, target: "_blank", rel: "noopener" };
    return make("a", link, "Open the PDF in a new tab");
  },
};

/** Return an element when it has loaded its file. */
function loaded(element, event) {
  $("preview-body").append(element);
  return new Promise((resolve, reject) => {
    element.addEventListener(event, () => resolve(element));
    const why = "This browser cannot show it, or the file is damaged";
    element.addEventListener("error", () => reject(new Problem(why)));
  });
}

async function textOf(record) {
  if (!record.size) return "";
  // With a precondition, the service sends the file itself and never redirects to a bucket, which
  // the policy of this page forbids.
  const headers = { Range: `bytes=0-${SAMPLE - 1}`, "If-Match": "*" };
  const response = await call(fileUrl(record.id), { headers });
  const [, charset = "utf-8"] = /charset="?([\w-]+)/i.exec(record.content_type) ?? [];
  let decoder = new TextDecoder();
  try {
    decoder = new TextDecoder(charset);
  } catch {} // an unknown charset
  // As a stream, because the last character may be incomplete.
  return decoder.decode(await response.arrayBuffer(), { stream: true });
}

async function contentOf(record, name) {
  const kind = kindOf(record);
  if (kind !== "text") {
    const own = turn;
    const url = await linkTo(record, { inline: 1 });
    return turn === own ? BUILDERS[kind](url, name) : null; // else it is closed
  }
  const text = await textOf(record);
  if (!text) return make("p", { className: "empty" }, "The file is empty.");
  return make("pre", { tabIndex: 0, role: "region", ariaLabel: `Text of ${name}` }, text);
}

function close() {
  turn = null;
  for (const media of $("preview-body").querySelectorAll("audio, video")) {
    media.removeAttribute("src");
    media.load(); // ends its requests
  }
  $("preview-body").replaceChildren();
}

/** Show a file until the dialog is closed; `controls` are shown below it. */
export async function preview(record, name, controls) {
  const [dialog, body] = [$("preview"), $("preview-body")];
  body.replaceChildren();
  const own = (turn = {});
  $("preview-title").textContent = name;
  const more = kindOf(record) === "text" && record.size > SAMPLE ? "the first 64 KiB of " : "";
  $("preview-about").textContent = `${record.content_type} · ${more}${bytes(record.size)}`;
  $("preview-controls").replaceChildren(...controls);
  dialog.dataset.state = "loading";
  dialog.onclose = close;
  dialog.showModal();
  try {
    const content = await contentOf(record, name);
    if (turn !== own) return;
    body.replaceChildren(content);
    dialog.dataset.state = "shown";
  } catch (error) {
    if (turn !== own) return;
    const why = make("p", { className: "error", role: "alert" }, `No preview: ${error.message}.`);
    body.replaceChildren(why);
    dialog.dataset.state = "failed";
  }
}
