// The chat of useChat of AI SDK 5.
import { useChat } from "@ai-sdk/react-2";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from "ai-5";
import { render } from "./chat.mjs";

render(useChat, DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls);
