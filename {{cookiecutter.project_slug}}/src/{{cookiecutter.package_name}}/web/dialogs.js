// Dialogs: a question, and the name under which a file is saved.

import { $ } from "./page.js";

/** Ask a question; resolve with whether the user has confirmed it. */
export function confirmed(question, details, action) {
  $("confirm-title").textContent = question;
  $("confirm-details").textContent = details;
  $("confirm-do").textContent = action;
  return new Promise((resolve) => {
    $("confirm-do").onclick = () => $("confirm").close("yes");
    $("confirm").onclose = () => resolve($("confirm").returnValue === "yes");
    $("confirm").returnValue = "";
    $("confirm").showModal();
  });
}

/** Ask for the name of a download; call a function with it. */
export function askName(name, save) {
  const field = $("save-name");
  field.value = name;
  $("save-form").onsubmit = (event) => {
    event.preventDefault();
    $("save").close();
    save(field.value.trim());
  };
  $("save").showModal();
  const [stem] = /^.[^.]*/.exec(name) ?? [name];
  field.setSelectionRange(0, stem.length); // the extension usually stays
}

for (const button of document.querySelectorAll("dialog [data-close]"))
  button.onclick = () => button.closest("dialog").close();
