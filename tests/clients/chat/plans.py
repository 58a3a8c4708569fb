"""A model that follows the plan in the message of the user; a module of a service for tests.

The last message is JSON: the model yields its `pieces` and its `events`, waits until it is released
if it `waits`, yields its `rest`, and fails if it has an `error`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter  # type: ignore[import-not-found]

from .engine.kernel import Problem  # type: ignore[import-not-found]


class Plan:
    """The state of a plan."""

    def __init__(self) -> None:
        self.started = 0
        self.ended: str | None = None
        #: The types of the parts of the message, and the names of the tools.
        self.asked: list[str] = []
        self.released, self.over = asyncio.Event(), asyncio.Event()

    def told(self) -> dict[str, object]:
        return {"started": self.started, "ended": self.ended, "asked": self.asked}


PLANS: dict[str, Plan] = {}


def plan_of(name: str) -> Plan:
    return PLANS.setdefault(name, Plan())


async def follow(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]]
) -> AsyncGenerator[dict[str, object]]:
    """Yield the events of the plan in the last message."""
    content = messages[-1]["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    script = json.loads("".join(part.get("text", "") for part in parts))
    plan = plan_of(script["name"])
    plan.started += 1
    plan.ended = "closed"
    plan.asked = [part["type"] for part in parts] + [tool["function"]["name"] for tool in tools]
    try:
        for piece in script["pieces"]:
            yield {"type": "text", "text": piece}
        for event in script.get("events", []):
            yield event
        if script.get("waits"):
            await plan.released.wait()
        for piece in script.get("rest", []):
            yield {"type": "text", "text": piece}
        if "error" in script:
            plan.ended = "failed"
            raise Problem(503, script["error"])
        yield {"type": "usage", "prompt_tokens": 1, "completion_tokens": len(script["pieces"])}
        plan.ended = "complete"
    finally:
        plan.over.set()


async def told(name: str) -> dict[str, object]:
    return plan_of(name).told()


async def told_at_the_end(name: str) -> dict[str, object]:
    async with asyncio.timeout(10):
        await plan_of(name).over.wait()
    return plan_of(name).told()


async def release(name: str) -> None:
    plan_of(name).released.set()


router = APIRouter(prefix="/plans/{name}")
router.add_api_route("", told)
router.add_api_route("/end", told_at_the_end)
router.add_api_route("/release", release, methods=["POST"])
