// Chromium uses a key where a page can set no headers: credentials.mjs CHROMIUM SERVICE KEY FILE.
// Prints "open" when a stream and a WebSocket are open, and the results after both have ended.
import { chromium } from "playwright-core";

setTimeout(() => process.exit(1), 80_000).unref();
const [executablePath, service, key, file] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  // The page below has no address, so Chromium would treat it as one of another network.
  args: ["--no-sandbox", "--disable-features=LocalNetworkAccessChecksWebSockets"],
});
const page = await browser.newPage();
// A page of the same origin, because those of the service may forbid connections.
await page.route(`${service}/blank`, (route) =>
  route.fulfill({ contentType: "text/html", body: "<!doctype html><video muted></video>" }),
);
await page.goto(`${service}/blank`);
await page.exposeFunction("say", (word) => console.log(word));

const results = await page.evaluate(
  async ({ key, file }) => {
    const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
    const post = (url, body) =>
      fetch(url, { method: "POST", headers, body: JSON.stringify(body) }).then((one) => one.json());
    const ticketed = async (path) => `${path}?ticket=${(await post("/tickets", { path })).ticket}`;
    const happens = (target, ...names) =>
      new Promise((resolve) => {
        for (const name of names) target.addEventListener(name, resolve, { once: true });
      });
    const socketOf = (url, protocols) => {
      const socket = new WebSocket(url.replace(/^/, "ws://" + location.host), protocols);
      return { socket, opened: happens(socket, "open", "error"), closed: happens(socket, "close") };
    };
    const topic = "/topics/orders";

    const address = await ticketed(`${topic}/events`);
    const source = new EventSource(address);
    const [told, reauth] = [happens(source, "message"), happens(source, "reauth")];
    await happens(source, "open");
    await post(`${topic}/events`, { total: 1 });
    const event = (await told).data;
    const again = new EventSource(address);
    await happens(again, "error");

    const { socket, opened, closed } = socketOf(`${topic}/ws`, ["bearer", key]);
    await opened;
    const wrong = socketOf(`${topic}/ws`, ["bearer", `${key}x`]);
    const bare = socketOf(`${topic}/ws`, []);
    const byTicket = socketOf(await ticketed(`${topic}/ws`));
    await byTicket.opened;
    const ticketOpened = byTicket.socket.readyState === WebSocket.OPEN;
    byTicket.socket.close();

    const video = document.querySelector("video");
    const loaded = happens(video, "loadedmetadata", "error");
    video.src = await ticketed(`/files/${file}`);
    const played = (await loaded).type;

    await say("open");
    await reauth;
    return {
      event,
      again: again.readyState,
      protocol: socket.protocol,
      wrong: (await wrong.closed).code,
      bare: (await bare.closed).code,
      ticketOpened,
      played,
      revoked: (await closed).code,
    };
  },
  { key, file },
);
await browser.close();
console.log(JSON.stringify(results));
