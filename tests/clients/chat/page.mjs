// The chat of the newest useChat, and the client of its page for other streams.
import { useChat } from "@ai-sdk/react";
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from "ai";
import { render } from "./chat.mjs";

window.fetchEventSource = fetchEventSource;
render(useChat, DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls);
