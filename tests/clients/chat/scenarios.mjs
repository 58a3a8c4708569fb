// Shared by the scripts of this folder: NAME.mjs SERVICE RELAY TEXTS [CHROMIUM PAGE]. Each prints a
// line of JSON for each scenario, with its name and result; "cut" asks to cut the connections of RELAY.
import { readFile } from "node:fs/promises";

export const [service, relay, file, ...more] = process.argv.slice(2);
export const texts = JSON.parse(await readFile(file, "utf-8"));
export const text = texts.join("");

const only = process.env.ONLY;
setTimeout(() => process.exit(1), 100_000).unref();

/** Return a message of a user: the model yields `pieces`, waits if `waits`, and yields `rest`. */
export const plan = (fields) => {
  const name = crypto.randomUUID();
  return { name, user: JSON.stringify({ name, ...fields }) };
};
export const gated = () => plan({ pieces: ["one ", "two "], waits: true, rest: ["three"] });

/** Return a plan that calls a tool, with the result of the tool if the service runs it. */
export const tooled = (...results) =>
  plan({
    pieces: [],
    events: [
      { type: "reasoning", text: "Where?" },
      { type: "text", text: "I look. " },
      { type: "tool_call", id: "call_1", name: "weather", arguments: '{"city":' },
      { type: "tool_call", id: "call_1", arguments: '"Oslo"}' },
      ...results,
    ],
  });
export const parameters = { type: "object", properties: { city: { type: "string" } } };
export const image = "data:image/png;base64,iVBORw0KGgo=";

/** Return the state of a plan: the number of generations, how the last one has ended, and the types
 * of the parts of the message and the names of the tools that the model has received. */
export const told = async ({ name }) => (await fetch(`${service}/plans/${name}`)).json();
/** Return the same, after the generation has ended. */
export const ended = async ({ name }) => (await fetch(`${service}/plans/${name}/end`)).json();
/** Let the model yield the rest. */
export const release = ({ name }) => fetch(`${service}/plans/${name}/release`, { method: "POST" });

/** Start the run of the chat, without any of the formats; return its id. */
export async function start({ user }) {
  const messages = [{ role: "user", content: user }];
  const body = JSON.stringify({ messages, tools: [], options: {} });
  const headers = { "Content-Type": "application/json" };
  return (await (await fetch(`${service}/runs/chat`, { method: "POST", body, headers })).json()).id;
}

/** Act when a gated model waits; a client that comes later gets several pieces as one. */
export const halfway = (act) => (pieces) => pieces.join("").endsWith("two ") ? act() : undefined;
export const cut = () => console.log('"cut"');

/** Return the error of a promise, or null. */
export async function caught(work) {
  try {
    await work;
    return null;
  } catch (error) {
    return error;
  }
}

/** Do the work of a scenario, and print its result. */
export async function scenario(name, work) {
  if (only && only !== name) return;
  const result = await work().catch((error) => `${error?.stack ?? error}`);
  console.log(JSON.stringify([name, result]));
}
