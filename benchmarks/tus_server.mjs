// The reference server of tus, as its README sets it up, with a route that answers pings.
import { createServer } from "node:http";
import { FileStore } from "@tus/file-store";
import { Server } from "@tus/server";

const [port, directory] = process.argv.slice(2);
const tus = new Server({ path: "/files", datastore: new FileStore({ directory }) });

createServer((request, response) => {
  if (request.url === "/ping") {
    response.end("live");
  } else {
    tus.handle(request, response);
  }
}).listen(Number(port), "127.0.0.1");
