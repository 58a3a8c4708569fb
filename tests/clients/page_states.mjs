// Each state of the demo page: page_states.mjs CHROMIUM LINK FOLDER; prints problems and results.
// The link has a key. Screenshots go to the folder.
import { execFileSync } from "node:child_process";
import { chromium } from "playwright-core";
import { check, listed, tryErrors, watched } from "./watched.mjs";

const [executablePath, link, folder] = process.argv.slice(2);
const { origin, hash } = new URL(link);
const key = hash.replace("#key=", "");
// The names of buttons that open a dialog. A panel without the button has no such dialog.
const DIALOGS = [/^Preview /, /^Save as… /, /^Delete notes/];
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin });
const failing = []; // the paths of requests that fail on purpose
const found = [];

// Without a key.
const asking = await watched(context, origin);
await asking.page.getByLabel("Enter a key").waitFor();
found.push(...(await check(asking.page, "key")));
await asking.page.close();

const { page, problems } = await watched(context, link, (...each) => listed(failing)(...each));
page.on("dialog", (dialog) => dialog.dismiss());
const button = (name) => page.getByRole("button", { name, exact: true });
await page.getByText(/^Live/).waitFor();
found.push(...(await check(page, "initial")));

// Files.
const files = ["notes.txt", "second.csv"].map((name) => ({
  name,
  mimeType: "text/plain",
  buffer: Buffer.from(name),
}));
await page.locator("input[type=file]").first().setInputFiles(files);
for (const { name } of files) await page.locator("#file-rows").getByText(name).first().waitFor();
found.push(...(await check(page, "files")));
for (const name of DIALOGS) {
  const opener = page.getByRole("button", { name }).first();
  if (!(await opener.count())) continue;
  await opener.click();
  if (!(await page.locator("dialog[open]").count())) continue;
  found.push(...(await check(page, String(name))));
  await page.keyboard.press("Escape");
  await page.locator("dialog[open]").waitFor({ state: "detached" });
}

// A run; the second click must not stop it.
await page.getByLabel("Count to").fill("150");
await button("Start").dblclick();
await page.getByText("2 of 150").waitFor();
found.push(...(await check(page, "run")));
const isRunning = await page.locator("#run-stop").isVisible();
await page.locator("#run-stop").click();
await page.locator("#run-status").getByText("Stopped.").waitFor();

// A reply.
await page.getByLabel("Your message").fill("What does this page show?");
await page.getByLabel("Your message").press("Enter");
await page.locator("#chat-status").getByText("Complete.").waitFor();
found.push(...(await check(page, "chat")));

// A topic without its connection.
await button("Watch").click();
await page.getByText("Watching: demo").waitFor();
await page.getByLabel("Message", { exact: true }).fill(`it's "$HOME"`);
await button("Publish").click();
await page.getByRole("log").getByText("$HOME").waitFor();
await button("Drop the connection").click();
await page.getByText(/^Dropped after id/).waitFor();
for (const id of ["#files-live", "#topic-status"])
  await page.locator(id).getByText(/^Dropped, until/).waitFor();
found.push(...(await check(page, "dropped")));
await button("Resume").click();
await page.getByText(/^Resumed after id/).waitFor();
await page.locator("#topic-status").getByText(/^Watching/).waitFor();
// Record the announcements of screen readers: later events must not repeat them.
await page.evaluate(() => {
  window.announced = [];
  const observer = new MutationObserver((all) =>
    announced.push(...all.map(({ target }) => target.id)),
  );
  for (const id of ["connection", "drop-status", "files-selected"])
    observer.observe(document.getElementById(id), { childList: true });
});

// Errors. Chromium can discard the last bytes of a connection that breaks: then try again.
const entries = await page.locator("#cases .hint").allTextContents();
failing.push(...entries.map((each) => each.split(" ")[1]));
const different = await tryErrors(page);
const result = page.locator("#case-result");
const cut = { records: [], text: "" };
for (const name of ["Try: CSV, cut off", "Try: JSON Lines, cut off"]) {
  const records = result.locator(".record");
  do {
    await button(name).click();
    await result.getByText("fetch() was rejected").waitFor();
  } while (!(await records.count()));
  cut.records.push(await records.allTextContents());
  cut.text = await result.locator(".verdict").textContent();
}
found.push(...(await check(page, "cut")));
await page.route("**/files?filename=example.txt", (route) =>
  route.fulfill({ status: 429, json: { title: "Too many files" } }),
);
await button("Try: False precondition").click();
await page.getByText("Not tried: Too many files (HTTP 429).").waitFor();
await page.unroute("**/files?filename=example.txt");
await button("Try: Digest mismatch").click();
const type = result.getByRole("link");
await type.waitFor();
found.push(...(await check(page, "problem")));
const described = (await context.request.get(await type.evaluate((each) => each.href))).status();

// The requests, and their commands.
const quoted = await page.evaluate(async () => {
  const { curl } = await import("/web/requests.js");
  const command = (name) => curl({ method: "POST", url: "files", body: new File([], name) });
  return ["it's.txt", "a\nb.txt", "-"].map((name) => /@.*$/s.exec(command(name))[0]);
});
await page.locator("#requests summary").click();
await page.getByRole("columnheader", { name: "Duration" }).waitFor();
found.push(...(await check(page, "requests")));
const rows = page.locator("#request-rows tr");
const statuses = {};
const refused = ["PATCH /uploads", "GET /files?limit=0", "POST /ingest"];
const UNKNOWN = "GET /access, unknown key";
for (const name of ["POST /topics/demo/events", "GET /access", UNKNOWN, ...refused]) {
  const copy = rows.getByRole("button", { name: `Copy as curl: ${name.split(",")[0]}` });
  // The request of the error has the method and path of an older one, which succeeds.
  const isNewest = name.startsWith("PATCH") || name === UNKNOWN;
  await (isNewest ? copy.first() : copy.last()).click();
  await page.getByText(/^Copied the command for/).waitFor();
  const command = await page.evaluate(() => navigator.clipboard.readText());
  if (command.includes(key)) found.push(`the key is in a command: ${command}`);
  const flags = "-s -o /dev/null -w '%{http_code}'";
  const env = { ...process.env, AUTH: `Authorization: Bearer ${key}` };
  statuses[name] = execFileSync("sh", ["-c", `${command} ${flags}`], { env, encoding: "utf8" });
}
await page.locator("#message-log").getByText(`it's "$HOME"`).nth(1).waitFor();
const announced = await page.evaluate(() => window.announced);
const isSecret = !(await page.locator("body").innerText()).includes(key);
await page.screenshot({ path: `${folder}/requests.png` });
await page.locator("#requests summary").click();
for (const [name, width] of Object.entries({ light: 1280, dark: 1280, phone: 360 })) {
  await page.emulateMedia({ colorScheme: name === "light" ? "light" : "dark" });
  await page.setViewportSize({ width, height: 900 });
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width, height });
  await page.screenshot({ path: `${folder}/${name}.png` });
}
await browser.close();
const outcome = { found, isRunning, different, cut, described, quoted, statuses, announced, isSecret };
console.log(JSON.stringify({ ...outcome, problems: [...asking.problems, ...problems] }));
