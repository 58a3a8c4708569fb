"""Real-time: publish events on topics, and push them to every client that subscribes.

* `router`: `POST /topics/{topic}/events` and `GET /topics/{topics}/events`; `publishing`.
* `hub`: who follows what; `subscription` and `ring`: how far each has read, and of what.
* `runs`, `run_router`: `POST /runs/{name}`, and what a run tells on a topic of its own.
* `streams`, `polling`: the ways to follow, over the kernel's push response; `frames`: the bytes;
  `schemas`: how OpenAPI describes them.
* `websocket`: `WS /topics/{topics}/ws`, its `commands`, and the `feed` of what one client follows.
* `backends`: where events are numbered and kept, in this process or for many.

A client that comes back with `Last-Event-ID` gets what it missed, or is told that it cannot.
Settings: `APP_REALTIME__…`. Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from fastapi import APIRouter

from .hub import open_hub
from .router import router as topics_router
from .run_router import router as run_router

router = APIRouter()
router.include_router(topics_router)
router.include_router(run_router)

__all__ = ["open_hub", "router"]
