"""websockets: websocket_frames.py ADDRESS; prints commands and frames as lines of JSON.

A line is `[kind, object]`, whose kind is `command`, `invalid` (a command) or `frame`.
"""

import json
import sys
from typing import Any

from websockets.exceptions import ConnectionClosed  # type: ignore[import-not-found]
from websockets.sync.client import connect  # type: ignore[import-not-found]

#: Commands, and how many frames each causes.
COMMANDS: list[tuple[dict[str, Any], int]] = [
    ({"type": "subscribe", "topics": ["orders.*", "prices"], "ref": "a"}, 1),
    ({"type": "subscribe", "topics": ["prices"], "last_event_id": None}, 1),
    ({"type": "publish", "topic": "news", "data": {"text": "tea"}, "ref": 1}, 2),
    ({"type": "publish", "topic": "orders.new", "data": None, "event": "created", "key": "k"}, 2),
    ({"type": "publish", "topic": "news", "data": [1.50, "é"], "event": None}, 2),
    ({"type": "unsubscribe", "topics": ["prices", "unknown"], "ref": None}, 1),
]
INVALID: list[Any] = [
    {"type": "subscribe"},
    {"type": "subscribe", "topics": []},
    {"type": "subscribe", "topics": ["a b"]},
    {"type": "subscribe", "topics": ["orders*"], "ref": "a"},
    {"type": "subscribe", "topics": ["news"], "last_event": "a-1"},
    {"type": "publish", "topic": "news"},
    {"type": "publish", "topic": "orders.*", "data": 1},
    {"type": "publish", "topic": "news", "data": 1, "event": "a b"},
    {"type": "publish", "topic": "news", "data": 1, "ref": "x" * 129},
    {"type": "unsubscribe", "topics": "news"},
    {"type": "greet"},
    [],
]


def show(kind: str, value: object) -> None:
    sys.stdout.write(f"{json.dumps([kind, value])}\n")


def main(url: str) -> None:
    with connect(url, proxy=None) as socket:

        def receive(count: int) -> None:
            for _ in range(count):
                show("frame", json.loads(socket.recv(timeout=60)))

        greeting = json.loads(socket.recv(timeout=60))
        show("frame", greeting)
        for command, count in COMMANDS:
            show("command", command)
            socket.send(json.dumps(command))
            receive(count)
        for number, command in enumerate(INVALID):
            if number % 5 == 4:  # Ten in a row would end the connection.
                socket.send(json.dumps(COMMANDS[-1][0]))
                receive(1)
            show("invalid", command)
            socket.send(json.dumps(command))
            receive(1)
    # The service sends some of the missed events and asks to reconnect, or reports a gap.
    for position in (greeting["last_event_id"], "old-1"):
        with connect(f"{url}?last_event_id={position}", proxy=None) as socket:
            try:
                for _ in range(3):
                    show("frame", json.loads(socket.recv(timeout=1)))
            except (ConnectionClosed, TimeoutError):
                pass


main(sys.argv[1])
