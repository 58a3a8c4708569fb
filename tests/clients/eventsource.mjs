// npm eventsource: eventsource.mjs ADDRESS COUNT; prints each event as a line of JSON.
import { EventSource } from "eventsource";

const [address, count] = process.argv.slice(2);
const source = new EventSource(address);
let seen = 0;
const show = ({ type, lastEventId, data }) => {
  console.log(JSON.stringify([type, lastEventId, data]));
  if (++seen === Number(count)) source.close();
};
source.addEventListener("message", show);
source.addEventListener("reset", show);
