// Pages whose problems are collected: exceptions, messages in the console, requests to other
// origins, violations that axe-core finds, and content that is wider than a phone.
import axe from "axe-core";

/** Open a page; `expected` returns whether Chromium may log a failed request. */
export async function watched(context, address, expected = () => false) {
  const page = await context.newPage();
  const { origin } = new URL(address);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    const url = message.location().url || address;
    if (!expected(new URL(url), message.text())) problems.push(`${message.text()} ${url}`);
  });
  page.on("request", (request) => {
    const { protocol, origin: other } = new URL(request.url());
    if (other !== origin && !["data:", "blob:"].includes(protocol)) problems.push(request.url());
  });
  await page.goto(address);
  return { page, problems };
}

/** Check the present state of a page, in light and dark, and on a phone. */
export async function check(page, state) {
  const found = [];
  if (await page.evaluate(() => !window.axe)) await page.evaluate(axe.source);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    const violations = await page.evaluate(async (isDark) => {
      const { violations } = await axe.run(isDark ? { runOnly: ["color-contrast"] } : {});
      return violations.map(({ id, nodes }) => [id, ...nodes.map((each) => each.target.join())]);
    }, colorScheme === "dark");
    found.push(...violations.map((each) => `${state}, ${colorScheme}: ${each.join(" ")}`));
  }
  const size = page.viewportSize();
  await page.setViewportSize({ width: 360, height: 740 });
  if (await isTooWide(page)) found.push(`${state}: too wide`);
  if (await page.evaluate(() => document.getAnimations().length)) found.push(`${state}: moves`);
  await page.setViewportSize(size);
  return found;
}

export const isTooWide = (page) =>
  page.evaluate(() => document.documentElement.scrollWidth > innerWidth);

/** Try each entry of the list of errors; return those with another status than they announce. */
export async function tryErrors(page) {
  const different = [];
  for (const entry of await page.locator("#cases > li").all()) {
    const title = await entry.locator("strong").textContent();
    const announced = await entry.locator("code").textContent();
    const status = announced === "cut" ? "200" : announced;
    await entry.getByRole("button").click();
    const shown = page.locator("#case-status").getByText(/^(HTTP|Not tried)/);
    await shown.waitFor();
    const words = await shown.textContent();
    await page.locator("#case-result .verdict").waitFor();
    if (!words.startsWith(`HTTP ${status} `)) different.push(`${title}: ${words}`);
  }
  return different;
}

/** Whether a URL is one of those in the list of errors; `paths` are shown in its entries. */
export const listed = (paths) => (url, text) => {
  const path = url.pathname + url.search;
  const patterns = paths.map((each) => new RegExp(`^${quoted(each).replace("ID", "[^/]+")}$`));
  const isRefusal = /status of 4\d\d|ERR_INCOMPLETE_CHUNKED_ENCODING/.test(text);
  return isRefusal && patterns.some((each) => each.test(path));
};

const quoted = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
