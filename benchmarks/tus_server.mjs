// The reference server of tus, configured as in its README, with a route for pings.
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
