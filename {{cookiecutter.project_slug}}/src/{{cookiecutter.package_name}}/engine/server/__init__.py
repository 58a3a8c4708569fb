"""The server: the `serve` command, and uvicorn with limits and deadlines for connections.

* `cli`: the command, which checks the settings and runs uvicorn with the options of `config`.
* `http_connection`: the protocol class of a connection, with `request_headers`, `sockets` and
  `capacity` (the maximum number of connections); `asgi`: the interface of one request.
* `parent`: workers end when their supervisor has died.
* `parse_scheduler`: connections take turns in parsing the bytes that they receive.
* `forwarded`: the client, scheme and host that trusted proxies report.
* `websocket`: the protocol class of a WebSocket.
* `direct` comes with real-time, `sendfile` with downloads, `chunk_sizes` with any streams.
* `uvicorn_names`: the private names of uvicorn that all of them use.

Settings: `APP_SERVER__…`. Sources: RFC 9112; RFC 7239; RFC 5482 (TCP user timeout).
"""

from .cli import main

__all__ = ["main"]
