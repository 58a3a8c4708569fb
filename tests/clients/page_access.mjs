// The demo page with keys: page_access.mjs CHROMIUM ADDRESS STEPS; prints the visible results.
// STEPS is JSON: the link that the service has printed, the keys of a member and of a reader, and a
// command that revokes the key of the member.
import { execFileSync } from "node:child_process";
import { chromium } from "playwright-core";

const [executablePath, address, steps] = process.argv.slice(2);
const { link, member, reader, revoke, folder } = JSON.parse(steps);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const errors = [];

async function open(url) {
  const page = await (await browser.newContext()).newPage();
  page.on("pageerror", (error) => errors.push(String(error)));
  // Chromium logs each refused request.
  page.on("console", (each) => /status of 401/.test(each.text()) || errors.push(each.text()));
  await page.goto(url);
  return page;
}

async function enter(page, key) {
  await page.getByLabel("Enter a key").fill(key);
  await page.getByRole("button", { name: "Use it" }).click();
}

async function upload(page, name) {
  const file = { name, mimeType: "text/plain", buffer: Buffer.from(name) };
  await page.locator("input[type=file]").setInputFiles(file);
  await page.getByRole("link", { name: `Download ${name}` }).waitFor();
}

const live = (page) => page.getByText(/^Live/).waitFor();
const listed = (page) => page.locator("#file-rows strong").allTextContents();
const form = (page) => page.getByLabel("Enter a key");

// Without a key, the page shows the form and nothing else.
const mine = await open(address);
await form(mine).waitFor();
const parts = await mine.locator("main section:visible:not(#key-section)").count();
await mine.screenshot({ path: `${folder}/form.png` });
await mine.setViewportSize({ width: 390, height: 844 });
await mine.screenshot({ path: `${folder}/form-phone.png` });
await mine.setViewportSize({ width: 1280, height: 720 });
await enter(mine, "sk_wrong");
const refusal = mine.getByRole("alert");
await refusal.getByText("HTTP 401").waitFor();
await enter(mine, member);
await live(mine);
await upload(mine, "mine.txt");

// Admin opens the printed link in a tab that has the page, as a user would paste it.
const all = await open(`${address}/#key=sk_wrong`);
await form(all).waitFor();
// A file that is stored while the list loads is still above the older ones.
let hold;
const list = new Promise((resolve) => (hold = resolve));
await all.route("**/files?*", hold, { times: 1 });
await all.goto(link);
await live(all);
await list;
await upload(all, "other.txt");
await (await list).continue();

// The page asks before a link with another key replaces the stored one.
await all.goto(`${address}/#key=${reader}`);
const question = all.getByRole("dialog", { name: "Use the key of this link?" });
await question.waitFor();
await question.getByRole("button", { name: "Cancel" }).click();
await question.waitFor({ state: "hidden" });
const kept = await all.evaluate(() => localStorage["key of /"]);
const isKept = link.endsWith(`#key=${kept}`);
await all.getByText("mine.txt", { exact: true }).waitFor();
await all.getByText("2 listed").waitFor();
const files = { admin: await listed(all) };
await mine.getByRole("button", { name: "Load newer" }).click();
await mine.getByText("1 listed.").waitFor();
files.member = await listed(mine);

// A browser can send a key to a WebSocket only as a subprotocol.
const greeting = await mine.evaluate(
  (key) =>
    new Promise((resolve) => {
      const socket = new WebSocket("/topics/demo/ws", ["bearer", key]);
      socket.onmessage = ({ data }) => resolve(`${socket.protocol} ${JSON.parse(data).type}`);
      socket.onclose = ({ code }) => resolve(`closed ${code}`);
    }),
  member,
);

// The page of a reader has only the controls that its scopes permit.
const limited = await open(`${address}/#key=${reader}`);
await limited.getByRole("heading", { name: "Files" }).waitFor();
const controls = await limited.locator("header, .row").getByRole("button").allTextContents();
await limited.getByRole("button", { name: "Forget key" }).click();
await form(limited).waitFor();
const forgotten = await limited.evaluate(() => localStorage.length);

// The page of a revoked key asks for another one, without an action of the user.
execFileSync(revoke[0], revoke.slice(1));
const revokedAt = Date.now();
await mine.getByRole("alert").getByText("The key was revoked.").waitFor();
const isPrompt = Date.now() - revokedAt < 5000;
await mine.screenshot({ path: `${folder}/revoked.png` });
await browser.close();
console.log(JSON.stringify({ parts, files, isKept, greeting, controls, forgotten, isPrompt, errors }));
