// Topics on the demo page: page_topics.mjs CHROMIUM PORT; prints the visible results. Events are
// published while the connection of the page breaks, by its button and by the network.
import { connect, createServer } from "node:net";
import { chromium } from "playwright-core";

const [executablePath, port] = process.argv.slice(2);
const connections = new Set();
const network = createServer((client) => {
  const service = connect(port, "127.0.0.1");
  for (const [one, other] of [[client, service], [service, client]])
    one.pipe(other).on("error", () => one.destroy()).on("close", () => one.destroy());
  connections.add(client);
}).listen(0, "127.0.0.1");
await new Promise((resume) => network.on("listening", resume));

function cut() {
  connections.forEach((each) => each.destroy());
  connections.clear();
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
const errors = [];
const open = new Set();
let most = 0; // open streams at the same time
page.on("pageerror", (error) => errors.push(String(error)));
// Chromium logs the connections that break.
page.on("console", (each) => /net::ERR_/.test(each.text()) || errors.push(each.text()));
page.on("request", (one) => {
  if (/events\?last_event_id/.test(one.url())) most = Math.max(most, open.add(one).size);
});
for (const event of ["requestfinished", "requestfailed"]) page.on(event, (one) => open.delete(one));

const ids = []; // of the published events
async function publish(...numbers) {
  const url = `http://127.0.0.1:${port}/topics/demo/events`;
  const headers = { "Content-Type": "text/plain" };
  for (const each of numbers) {
    const response = await fetch(url, { method: "POST", headers, body: `event ${each}` });
    ids.push((await response.json()).id);
  }
}

const button = (name) => page.getByRole("button", { name, exact: true });
const texts = () => page.locator(".message > :last-child").allTextContents();
const connected = page.locator("#connection[data-state=live]");
const arrived = (text) => page.getByRole("log").getByText(text, { exact: true }).waitFor();

await page.goto(`http://127.0.0.1:${network.address().port}/`);
await button("Watch").click();
await page.getByText("Watching: demo").waitFor();
await publish(1, 2, 3, 4, 5);
await arrived("event 5");
await page.locator("#chart-text").getByText(/peak [1-9]/).waitFor();
const bars = await page.locator("#chart rect").count();

// The second click must not resume.
await button("Drop the connection").dblclick();
const dropped = await page.getByText(/^Dropped after id/).textContent();
await publish(6, 7, 8, 9);
await button("Resume").dblclick();
await page.getByText("4 events replayed").waitFor();
const resumed = await page.locator("#drop-status").textContent();
const words = [dropped, resumed].map((each) => each.includes(`after id ${ids[4]}`));
await page.locator("#last-id").getByText(ids[8]).waitFor();

for (const numbers of [[10, 11, 12], [13, 14, 15, 16], [17, 18, 19, 20]]) {
  await connected.waitFor();
  cut();
  await publish(...numbers);
}
await arrived("event 20");
await connected.waitFor();
const shown = await texts();
const captions = await page.locator(".message .caption > :last-child").allTextContents();

await button("Clear the messages").click();
await button("Publish 20").dblclick();
await page.getByText("Published 20 events.").waitFor();
await arrived("hello 20");
const many = await texts();
await browser.close();
network.close();
cut();
const isSame = JSON.stringify(captions) === JSON.stringify(ids);
console.log(JSON.stringify({ shown, isSame, words, bars, many, most, errors }));
