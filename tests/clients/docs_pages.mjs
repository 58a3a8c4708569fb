// The documentation of the API in a browser: docs_pages.mjs CHROMIUM ADDRESS; prints the scripts that run.
import { chromium } from "playwright-core";

const [executablePath, address] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

async function open(path, operation, refusals = 0) {
  const page = await browser.newPage();
  const refused = [];
  const elsewhere = [];
  const told = new Promise((resolve) =>
    page.exposeFunction("refuse", (what) => refused.push(what) >= refusals && resolve()),
  );
  await page.addInitScript(() =>
    document.addEventListener("securitypolicyviolation", (violation) =>
      window.refuse(`${violation.effectiveDirective} ${violation.blockedURI}`),
    ),
  );
  page.on("response", (response) => {
    if (/^http/.test(response.url()) && !response.url().startsWith(address))
      elsewhere.push(response.url());
  });
  await page.goto(address + path);
  await page.locator(operation).first().waitFor();
  if (refusals) await told;
  const own = [...refused];
  // Injected code must not run.
  await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "globalThis.smuggled = true";
    document.body.append(script);
  });
  const smuggled = await page.evaluate(() => globalThis.smuggled ?? false);
  await page.close();
  return { elsewhere, refused: own, smuggled };
}

const pages = {
  "/docs": await open("/docs", "#operations-health-live"),
  "/redoc": await open("/redoc", "[data-section-id='tag/health/operation/live']", 1),
};
await browser.close();
console.log(JSON.stringify(pages));
