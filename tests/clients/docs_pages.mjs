// The documentation of the API in a browser: docs_pages.mjs CHROMIUM ADDRESS; prints what runs.
import { chromium } from "playwright-core";

const [executablePath, address] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

// They stand for what the pages load from elsewhere, and do what that does: both read the schema
// and show images of their own; ReDoc makes its style sheets, and works in the background.
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
  // What somebody has smuggled into the page does not run.
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
