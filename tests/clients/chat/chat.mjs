// A chat with useChat, at ?service=…&id=… of another origin. As its documentation describes, the page
// keeps the messages, and resumes the active stream when it is loaded.
import { createElement, useEffect } from "react";
import { createRoot } from "react-dom/client";

const query = new URLSearchParams(location.search);
const [service, id] = [query.get("service"), query.get("id")];

export function render(useChat, Transport, sendAutomaticallyWhen) {
  const transport = new Transport({ api: `${service}/chat` });
  const messages = JSON.parse(localStorage.getItem(id) ?? "[]");
  function Chat() {
    const chat = useChat({ id, messages, transport, resume: true, sendAutomaticallyWhen });
    useEffect(() => {
      window.chat = chat;
      // Do not keep incomplete messages.
      if (chat.status !== "streaming") localStorage.setItem(id, JSON.stringify(chat.messages));
    });
    const shown = chat.messages.map(({ id, parts }) => {
      const texts = parts.map(({ text }) => text);
      return createElement("pre", { key: id }, ...texts);
    });
    return createElement("div", null, createElement("output", null, chat.status), ...shown);
  }
  createRoot(document.querySelector("main")).render(createElement(Chat));
}
