"""Real-time: publish events on topics, and push them to every client that subscribes.

* `router`: `POST /topics/{topic}/events` and `GET /topics/{topics}/events`; `publishing`.
* `hub`: who follows what; `subscription` and `ring`: how far each has read, and of what.
* `streams`, `polling`: the ways to follow, over the kernel's push response; `frames`: the bytes.
* `backends`: where events are numbered and kept, in this process or for many.

A client that comes back with `Last-Event-ID` gets what it missed, or is told that it cannot.
Settings: `APP_REALTIME__…`. Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from .hub import open_hub
from .router import router

__all__ = ["open_hub", "router"]
