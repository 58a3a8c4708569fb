// Pages of several origins send the same requests to a service: foreign_pages.mjs CHROMIUM
// [NAME PAGE SERVICE FILE]...; prints the results by name. The pages stay open until the input ends,
// because a page cannot detect the response to a form or a beacon.
import { chromium } from "playwright-core";

setTimeout(() => process.exit(1), 50_000).unref();
const [executablePath, ...words] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: [
    "--no-sandbox",
    // All names resolve to this machine, like rebound names of an attacker.
    "--host-resolver-rules=MAP *.example 127.0.0.1",
    // Only some browsers block access to addresses of the local network; disable it here.
    "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
  ],
});

// ?by=… is the name of each modifying request.
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
    // A page with the service's name may set any field that a proxy would set.
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
  await page.unroute(address); // With a route, all CORS preflight requests succeed.
  return [name, await page.evaluate(act, { name, service, file })];
};
const pages = [];
while (words.length) pages.push(words.splice(0, 4));
console.log(JSON.stringify(Object.fromEntries(await Promise.all(pages.map(attempt)))));
for await (const _ of process.stdin);
await browser.close();
