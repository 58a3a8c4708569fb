// npm eventsource, many in one process: follow_many.mjs ADDRESS COUNT; ends when all have received
// the event "end". Prints JSON: the different sequences of ids that they received, with the number
// of them, and how often one was connected again.
import { EventSource } from "eventsource";

const [address, count] = process.argv.slice(2);
let opened = 0;

const follow = () =>
  new Promise((resolve) => {
    const source = new EventSource(address);
    const ids = [];
    source.onopen = () => {
      if (++opened === Number(count)) console.error("all have subscribed");
    };
    // After a status other than 200 an EventSource does not reconnect.
    source.onerror = (error) => source.readyState === EventSource.CLOSED && resolve([error.message]);
    source.addEventListener("reset", () => ids.push("reset"));
    source.onmessage = ({ data, lastEventId }) => {
      ids.push(lastEventId);
      if (data !== "end") return;
      source.close();
      resolve(ids);
    };
  });

const sequences = {};
for (const ids of await Promise.all(Array.from({ length: Number(count) }, follow))) {
  const key = JSON.stringify(ids);
  sequences[key] = (sequences[key] ?? 0) + 1;
}
const received = Object.entries(sequences).map(([ids, number]) => [JSON.parse(ids), number]);
console.log(JSON.stringify({ received, reconnected: opened - count }));
