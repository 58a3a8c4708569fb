// npm eventsource-client: eventsource_client.mjs ADDRESS COUNT; prints each event as a line of JSON.
import { createEventSource } from "eventsource-client";

const [url, count] = process.argv.slice(2);
const source = createEventSource({ url });
let seen = 0;
for await (const { event = "message", id, data } of source) {
  console.log(JSON.stringify([event, id, data]));
  if (++seen === Number(count)) break;
}
source.close();
