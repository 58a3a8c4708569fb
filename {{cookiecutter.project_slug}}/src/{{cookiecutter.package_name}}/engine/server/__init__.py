"""The server: the `serve` command, and the protocol class that uvicorn runs our application in.

* `cli`: checks the settings, then runs uvicorn; the parts of the
  application bring other commands. `config`: uvicorn's, with the settings.
* `protocol`: the protocol class, where uvicorn is as we know it; `connection`: what only the
  owner of the socket can do (abort, HTTP/1.0 framing, dead peers).
* `websocket`: the same for WebSockets, which only the real-time module has.
* `forwarded`: what trusted proxies say of a request.
* `turns`: how much of what clients send is parsed in one turn of the loop; `pipeline`: how many
  requests wait for the one before.
* `reading`: where one request ends and the next begins, offers of other protocols, half-closes.
* `head`: how large and how slow the head of a request may be, and what it may not say;
  `connections`: how many there may be, and which are closed when there are more.
* `sendfile`: files without copies; `direct`: parts of a body without the layers between.

Settings: `APP_SERVER__…`. Sources: RFC 9112; RFC 7239; RFC 5482 (TCP user timeout).
"""

from .cli import main

__all__ = ["main"]
