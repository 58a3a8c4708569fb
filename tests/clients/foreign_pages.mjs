// Pages of several origins try the same with a service: foreign_pages.mjs CHROMIUM
// [NAME PAGE SERVICE FILE]...; prints by their names which of it they could do. The pages stay until
// its input ends: a page does not see when the response to a form or a beacon is there.
import { chromium } from "playwright-core";

setTimeout(() => process.exit(1), 50_000).unref();
const [executablePath, ...words] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: [
    "--no-sandbox",
    // All names are those of this machine, as an attacker would rebind theirs.
    "--host-resolver-rules=MAP *.example 127.0.0.1",
    // Only some browsers keep pages from the addresses of their own network; this one shall not.
    "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
  ],
});

// Each attempt to change something has its name in ?by=….
const act = async ({ name, service, file }) => {
  const topic = `${service}/topics/${name}`;
  const files = `${service}/files?filename=${name}.txt`;

  const submit = (action, enctype, input) => {
    const form = document.body.appendChild(document.createElement("form"));
    form.append(Object.assign(document.createElement("input"), input));
    document.body.appendChild(document.createElement("iframe")).name = action;
    Object.assign(form, { action, enctype, method: "post", target: action }).submit();
  };
  const chosen = new DataTransfer();
  chosen.items.add(new File(["content"], `${name}.txt`));
  submit(`${files}&by=${name}-form`, "multipart/form-data", {
    type: "file", name: "file", files: chosen.files,
  });
  submit(`${topic}/events?by=${name}-text-form`, "text/plain", { name: "a", value: "text" });
  navigator.sendBeacon(`${topic}/events?by=${name}-beacon`, "beacon");

  const send = (url, init) =>
    fetch(url, { signal: AbortSignal.timeout(10_000), ...init }).catch(() => null);
  const simple = { method: "POST", mode: "no-cors" };
  await send(`${topic}/events?by=${name}-publish`, { ...simple, body: "fetch" });
  await send(`${service}/runs/counter?by=${name}-run`, simple);
  await send(`${files}&by=${name}-upload`, { ...simple, body: "content" });

  const opened = (source) =>
    new Promise((resolve) => {
      source.onopen = () => resolve(true);
      source.onerror = () => resolve(false);
      setTimeout(() => resolve(null), 10_000);
    }).finally(() => source.close());
  const read = async (headers) => {
    const response = await send(files, { headers });
    return Boolean(response?.ok && (await response.text()));
  };
  return {
    // A page that has the service's name may set any field that a proxy would.
    read: (await read({})) || (await read({ "X-Forwarded-Host": "localhost" })),
    socket: await opened(new WebSocket(`${topic.replace("http", "ws")}/ws`)),
    events: await opened(new EventSource(`${topic}/events`)),
    removed: Boolean((await send(`${service}/files/${file}`, { method: "DELETE" }))?.ok),
  };
};

const attempt = async ([name, address, service, file]) => {
  const page = await browser.newPage();
  await page.route(address, (route) => route.fulfill({ contentType: "text/html", body: "<p>" }));
  await page.goto(address);
  await page.unroute(address); // With a route, each preflight request of CORS succeeds.
  return [name, await page.evaluate(act, { name, service, file })];
};
const pages = [];
while (words.length) pages.push(words.splice(0, 4));
console.log(JSON.stringify(Object.fromEntries(await Promise.all(pages.map(attempt)))));
for await (const _ of process.stdin);
await browser.close();
