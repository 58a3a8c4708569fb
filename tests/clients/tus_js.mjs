// tus-js-client in Node: tus_js.mjs PACKAGE PROTOCOL PARALLEL SERVICE FILE FOLDER
import { createReadStream, readFileSync } from "node:fs";
import { basename, join } from "node:path";

const [name, protocol, parallelUploads, service, file, folder] = process.argv.slice(2);
const tus = await import(name);
// Since version 5 it is a module of its own.
const { FileUrlStorage } = tus.FileUrlStorage ? tus : await import(`${name}/node/FileUrlStorage`);

// Version 4 never says that the rest of a file's stream, which it goes on with, is the last of it.
const whole = name === "tus-v4" && protocol !== "tus-v1";

const upload = new tus.Upload(whole ? readFileSync(file) : createReadStream(file), {
  endpoint: `${service}/uploads`,
  protocol,
  parallelUploads: Number(parallelUploads),
  metadata: { filename: basename(file), filetype: "application/octet-stream" },
  urlStorage: new FileUrlStorage(join(folder, "uploads.json")),
  onError(error) {
    console.error(error);
    process.exit(1);
  },
});
const [previous] = await upload.findPreviousUploads();
if (previous) upload.resumeFromPreviousUpload(previous);
upload.start();
