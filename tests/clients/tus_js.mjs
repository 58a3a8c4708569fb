// tus-js-client in Node: tus_js.mjs PACKAGE PROTOCOL PARALLEL SERVICE FILE FOLDER
// FILE may be a folder; then as many files are sent at once as in a browser.
import { createReadStream, readFileSync, readdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";

const [name, protocol, parallelUploads, service, file, folder] = process.argv.slice(2);
const tus = await import(name);
// A separate module since version 5.
const { FileUrlStorage } = tus.FileUrlStorage ? tus : await import(`${name}/node/FileUrlStorage`);

// Version 4 does not mark the last chunk when it resumes a stream of a file.
const whole = name === "tus-v4" && protocol !== "tus-v1";
const isFolder = statSync(file).isDirectory();
const waiting = isFolder ? readdirSync(file).map((each) => join(file, each)) : [file];

const send = (path) =>
  new Promise((resolve) => {
    const upload = new tus.Upload(whole ? readFileSync(path) : createReadStream(path), {
      endpoint: `${service}/uploads`,
      protocol,
      parallelUploads: Number(parallelUploads),
      metadata: { filename: basename(path), filetype: "application/octet-stream" },
      urlStorage: new FileUrlStorage(join(folder, `${basename(path)}.json`)),
      onError(error) {
        console.error(error);
        process.exitCode = 1;
        resolve();
      },
      onSuccess: resolve,
    });
    upload.findPreviousUploads().then(([previous]) => {
      if (previous) upload.resumeFromPreviousUpload(previous);
      upload.start();
    });
  });

async function sendAll() {
  while (waiting.length) await send(waiting.pop());
}
await Promise.all(Array.from({ length: 6 }, sendAll));
