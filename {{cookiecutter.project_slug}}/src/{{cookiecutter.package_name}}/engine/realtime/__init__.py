"""Real-time: publish events on topics, and push them to every client that subscribes.

* `router`: the part, `POST` and `GET /topics/{topic}/events`; `streams`: the responses.
* `websocket`: `WS /topics/{topics}/ws`.
* `runs`: `POST /runs/{name}`, which starts a job; its events are those of a topic. `chat`: the
  formats of clients that show the answers of a model.
* `hub`: the subscriptions of a process; `limits`: the limits of a client; `messages`: published
  content; `topics`: names and positions; `files`: the events of stored files.
* `subscription`: the position of a client; `ring`: the events of a topic; `store`: all rings.
* `backends`: the brokers, in the memory of one process, or shared by several processes.

A client that reconnects with `Last-Event-ID` receives the events that it missed, or a `reset`.
Settings: `APP_REALTIME__…`. Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from .messages import Message
from .ring import Event
from .router import Events, Publisher, Realtime
from .runs.readers import End, EventStreamReader, JsonLinesReader, Reader, TextReader
from .runs.responses import RunResult, RunStream
from .runs.router import IdempotencyKey, RunRouter, RunsDep, read_json
from .settings import RealtimeSettings

__all__ = [
    "End",
    "Event",
    "EventStreamReader",
    "Events",
    "IdempotencyKey",
    "JsonLinesReader",
    "Message",
    "Publisher",
    "Reader",
    "Realtime",
    "RealtimeSettings",
    "RunResult",
    "RunRouter",
    "RunStream",
    "RunsDep",
    "TextReader",
    "read_json",
]
