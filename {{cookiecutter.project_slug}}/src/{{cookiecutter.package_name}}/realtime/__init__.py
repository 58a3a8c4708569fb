"""Real-time: publish events on topics, and push them to every client that subscribes.

* `router`: `POST /topics/{topic}/events` and `GET /topics/{topic}/events`.
* `hub`: who is subscribed to what; `backends`: what is kept of each topic.
* `event_stream`: Server-Sent Events over the kernel's push response.
* `messages`: what a publisher may send.

A client that comes back with `Last-Event-ID` gets what it missed, or is told that it cannot.
Settings: `APP_REALTIME__…`. Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from .hub import open_hub
from .router import router

__all__ = ["open_hub", "router"]
