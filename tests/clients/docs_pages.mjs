// The documentation of the API in a browser: docs_pages.mjs CHROMIUM ADDRESS; prints the scripts that run.
import { chromium } from "playwright-core";

const [executablePath, address] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

// Replacements for the scripts that the pages load from a CDN, with the same behaviour: both read the
// schema and show their own images; ReDoc creates style sheets, and uses a worker.
const read = `
  async function read(url) {
    const image = new Image();
    image.src = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAAAAAAALAAAAAABAAEAAAI=";
    await image.decode();
    const schema = await (await fetch(url)).json();
    tell(schema.openapi ? url : "no schema");
  }`;
const stubs = {
  "swagger-ui-bundle.js": `
    globalThis.SwaggerUIBundle = ({ url }) => read(url);
    SwaggerUIBundle.presets = {};`,
  "redoc.standalone.js": `
    const style = document.head.appendChild(document.createElement("style"));
    style.textContent = "body { color: rgb(1, 2, 3) }";
    if (getComputedStyle(document.body).color === "rgb(1, 2, 3)") {
      const worker = new Worker(URL.createObjectURL(new Blob(["postMessage('')"])));
      worker.onmessage = () => read(document.querySelector("redoc").getAttribute("spec-url"));
    }`,
};

async function open(path) {
  const page = await browser.newPage();
  const refused = [];
  await page.exposeFunction("refuse", (what) => refused.push(what));
  const told = new Promise((resolve) => page.exposeFunction("tell", resolve));
  await page.addInitScript(() =>
    document.addEventListener("securitypolicyviolation", (violation) =>
      window.refuse(`${violation.effectiveDirective} ${violation.blockedURI}`),
    ),
  );
  await page.route(/^https:/, (route) => {
    const name = new URL(route.request().url()).pathname.split("/").at(-1);
    const stub = name in stubs && { body: read + stubs[name], contentType: "text/javascript" };
    return route.fulfill(stub || { body: "", contentType: "text/css" });
  });
  await page.goto(address + path);
  const asked = await told;
  const own = [...refused];
  // Injected code must not run.
  await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "globalThis.smuggled = true";
    document.body.append(script);
  });
  const smuggled = await page.evaluate(() => globalThis.smuggled ?? false);
  await page.close();
  return { asked, refused: own, smuggled };
}

const pages = { "/docs": await open("/docs"), "/redoc": await open("/redoc") };
await browser.close();
console.log(JSON.stringify(pages));
