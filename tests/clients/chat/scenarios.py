"""Shared by the scripts in Python: NAME_client.py SERVICE RELAY TEXTS.

Each prints one line of JSON for each scenario, with its name and result; "cut" asks to cut the
connections of RELAY.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen
from uuid import uuid4

SERVICE, RELAY, FILE = sys.argv[1:4]
TEXTS: list[str] = json.loads(Path(FILE).read_text("utf-8"))
TEXT = "".join(TEXTS)


class Plan(NamedTuple):
    """A message of a user: the model yields `pieces`, waits if `waits`, and yields `rest`."""

    name: str
    user: str

    @property
    def messages(self) -> list[dict[str, object]]:
        return [{"role": "user", "content": self.user}]

    @property
    def messages_with_image(self) -> list[dict[str, object]]:
        return [{"role": "user", "content": [{"type": "text", "text": self.user}, IMAGE]}]

    def told(self) -> dict[str, object]:
        """Return the state of the plan.

        `started`, the number of generations; `ended`, how the last one has ended; `asked`, the
        types of the parts of the message and the names of the tools that the model has received.
        """
        return ask("GET", f"/plans/{self.name}")

    def ended(self) -> dict[str, object]:
        """Return the same, after the generation has ended."""
        return ask("GET", f"/plans/{self.name}/end")

    def release(self) -> None:
        """Let the model yield the rest."""
        ask("POST", f"/plans/{self.name}/release")

    def start(self) -> str:
        """Start the run of the chat, without any of the formats; return its id."""
        body = {"messages": self.messages, "tools": [], "options": {}}
        return str(ask("POST", "/runs/chat", body)["id"])


def plan(**fields: object) -> Plan:
    name = str(uuid4())
    return Plan(name, json.dumps({"name": name, **fields}, ensure_ascii=False))


def gated() -> Plan:
    return plan(pieces=["one ", "two "], waits=True, rest=["three"])


def failing() -> Plan:
    return plan(pieces=["one ", "two "], error="The model is busy.")


def tooled() -> Plan:
    """Return a plan with a call of a tool."""
    events = [
        {"type": "reasoning", "text": "Where?"},
        {"type": "text", "text": "I look. "},
        {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": '{"city":'},
        {"type": "tool_call", "id": "call_1", "arguments": '"Oslo"}'},
    ]
    return plan(pieces=[], events=events)


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def ask(method: str, path: str, body: object = None) -> dict[str, object]:
    data = None if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    request = Request(f"{SERVICE}{path}", data, headers, method=method)  # noqa: S310
    with urlopen(request, timeout=30) as response:  # noqa: S310
        found: dict[str, object] = json.loads(response.read() or b"{}")
    return found


def show(value: object) -> None:
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


def cut() -> None:
    show("cut")


def halfway(act: Callable[[], object]) -> Callable[[list[str]], None]:
    """Act when a gated model waits; a client that comes later gets several pieces as one."""

    def seen(pieces: list[str]) -> None:
        if "".join(pieces).endswith("two "):
            act()

    return seen


def scenario(name: str, work: Callable[[], object]) -> None:
    """Do the work of a scenario, and print its result."""
    if os.environ.get("ONLY", name) != name:
        return
    try:
        result = work()
    except Exception:
        result = traceback.format_exc()
    show([name, result])
