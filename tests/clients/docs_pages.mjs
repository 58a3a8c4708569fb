// The documentation of the API in a browser: docs_pages.mjs CHROMIUM ADDRESS [KEY]; prints the scripts
// that run, and with a key the status of a request that Swagger UI has sent.
import { chromium } from "playwright-core";

const [executablePath, address, key] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

async function open(path, operation, refusals = 0, use = () => {}) {
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
  const used = key && (await use(page));
  const own = [...refused];
  // Injected code must not run.
  await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "globalThis.smuggled = true";
    document.body.append(script);
  });
  const smuggled = await page.evaluate(() => globalThis.smuggled ?? false);
  await page.close();
  return { elsewhere, refused: own, smuggled, ...(used && { used }) };
}

/** Enter the key as a reader of the documentation does, and send a request with it. */
async function authorize(page) {
  await page.getByRole("button", { name: "Authorize" }).first().click();
  const dialog = page.locator(".modal-ux");
  await dialog.locator("input").first().fill(key);
  await dialog.getByRole("button", { name: "Apply credentials" }).first().click();
  await dialog.getByRole("button", { name: "Close" }).last().click();
  const operation = page.locator("#operations-access-describe_sender");
  await operation.getByRole("button").first().click();
  await operation.getByRole("button", { name: "Try it out" }).click();
  await operation.getByRole("button", { name: "Execute" }).click();
  return operation.locator(".live-responses-table .response-col_status").last().textContent();
}

/** Return the names of the security schemes that are shown for an operation. */
async function schemes(page) {
  const operation = page.locator("[data-section-id='tag/access/operation/describe_sender']");
  return (await operation.getByText("Authorizations:").locator("../..").textContent()).trim();
}

const pages = {
  "/docs": await open("/docs", "#operations-health-live", 0, authorize),
  "/redoc": await open("/redoc", "[data-section-id='tag/health/operation/live']", 1, schemes),
};
await browser.close();
console.log(JSON.stringify(pages));
