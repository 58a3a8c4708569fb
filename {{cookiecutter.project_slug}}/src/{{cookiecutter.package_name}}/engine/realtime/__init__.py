"""Real-time: publish events on topics, and push them to every client that subscribes.

* `router`: `POST /topics/{topic}/events` and `GET /topics/{topics}/events`; `publishing`.
* `events`: how code of the service publishes them.
* `hub`: who follows what; `subscription` and `ring`: how far each has read, and of what.
* `runs`, `run_router`: `POST /runs/{name}`, and what a run tells on a topic of its own.
* `streams`, `polling`: the ways to follow, over the kernel's push response; `frames`: the bytes.
* `websocket`: `WS /topics/{topics}/ws`, its `commands`, and the `feed` of what one client follows.
* `backends`: where events are numbered and kept, in this process or for many.

A client that comes back with `Last-Event-ID` gets what it missed, or is told that it cannot.
Settings: `APP_REALTIME__…`. Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from .events import Events, Publisher
from .messages import Message
from .part import Realtime
from .run_router import RunRouter, RunsDep, RunStream, read_json
from .settings import RealtimeSettings

__all__ = [
    "Events",
    "Message",
    "Publisher",
    "Realtime",
    "RealtimeSettings",
    "RunRouter",
    "RunStream",
    "RunsDep",
    "read_json",
]
