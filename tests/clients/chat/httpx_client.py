"""httpx and httpx-sse: our own formats."""

import json
from collections.abc import Callable
from typing import Any

import httpx  # type: ignore[import-not-found]
from httpx_sse import connect_sse  # type: ignore[import-not-found]
from scenarios import RELAY, SERVICE, TEXT, TEXTS, cut, failing, gated, halfway, plan, scenario

#: Its default timeout of five seconds is shorter than the heartbeat.
CLIENT = httpx.Client(timeout=60)


class Follower:
    """Follows a run as the documentation of httpx-sse requires: it reconnects itself."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.pieces: list[str] = []
        self.end: Any = None
        self.status = 200
        self.last_event_id = ""
        self.empty = 0

    def read(self, address: str, seen: Callable[[list[str]], object] = bool) -> None:
        headers = {"Last-Event-ID": self.last_event_id} if self.last_event_id else {}
        url = f"{address}/runs/{self.run_id}/events"
        with connect_sse(CLIENT, "GET", url, headers=headers) as source:
            self.status = source.response.status_code
            if self.status == 204:
                return
            for event in source.iter_sse():
                self.last_event_id = event.id
                if event.event == "end":
                    self.end = json.loads(event.data)
                elif not event.data:
                    self.empty += 1
                elif (found := json.loads(event.data))["type"] == "text":
                    self.pieces.append(found["text"])
                    seen(self.pieces)


def stream() -> object:
    follower = Follower(plan(pieces=TEXTS).start())
    follower.read(SERVICE)
    return ["".join(follower.pieces) == TEXT, follower.end["status"], follower.empty]


def error() -> object:
    follower = Follower(failing().start())
    follower.read(SERVICE)
    problem = follower.end["problem"]
    return ["".join(follower.pieces), follower.end["status"], problem["detail"]]


def stop() -> object:
    follower = Follower(gated().start())
    url = f"{SERVICE}/runs/{follower.run_id}/stop"
    follower.read(SERVICE, halfway(lambda: CLIENT.post(url)))
    return ["".join(follower.pieces), follower.end["status"]]


def lost() -> object:
    script = gated()
    follower, name = Follower(script.start()), None
    try:
        follower.read(RELAY, halfway(cut))
    except httpx.TransportError as error:
        name = type(error).__name__
    script.release()
    follower.read(RELAY)
    return [name, "".join(follower.pieces), follower.end["status"], script.told()["started"]]


def ended() -> object:
    follower = Follower(plan(pieces=["one"]).start())
    follower.read(SERVICE)
    follower.read(SERVICE)
    return [follower.pieces, follower.status]


def events_as(media_type: str) -> str:
    url = f"{SERVICE}/runs/{plan(pieces=TEXTS).start()}/events"
    response = CLIENT.get(url, headers={"Accept": media_type})
    assert response.headers["Content-Type"].startswith(media_type)
    return str(response.content, "utf-8")


def lines() -> object:
    events = [json.loads(line) for line in events_as("application/jsonl").split("\n") if line]
    texts = [each["data"]["text"] for each in events if each["data"].get("type") == "text"]
    return ["".join(texts) == TEXT, events[-1]["event"], events[-1]["data"]["status"]]


def text() -> object:
    return events_as("text/plain") == TEXT


for name, work in {
    "stream": stream, "error": error, "stop": stop, "cut": lost, "ended": ended, "lines": lines,
    "text": text,
}.items():  # fmt: skip
    scenario(name, work)
