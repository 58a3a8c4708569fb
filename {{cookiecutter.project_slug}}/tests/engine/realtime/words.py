"""A service with a run whose generations are recorded; several processes of it share a directory.

It is copied into that directory and started as `-m words`.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pydantic_core

from {{cookiecutter.package_name}} import app
from {{cookiecutter.package_name}}.engine.realtime import RunRouter, RunsDep, RunStream
from {{cookiecutter.package_name}}.engine.realtime.messages import Message, message_of
from {{cookiecutter.package_name}}.engine.realtime.runs import (
    router as runs_router,
    runs as runs_module,
)
from {{cookiecutter.package_name}}.engine.server import cli
from {{cookiecutter.package_name}}.engine.service import Service
from {{cookiecutter.package_name}}.settings import Settings

#: A line for each generation: the process, the name of the text, and its first word.
GENERATIONS = Path("generations")
#: Seconds between two reports of a process, so that a test need not wait for half a minute.
ALIVE_SECONDS = 0.5
router = RunRouter(prefix="/runs")


def word(number: int) -> str:
    return f"w{number} "


def text_of(messages: list[Message]) -> str:
    return "".join(pydantic_core.from_json(message.data)["text"] for message in messages)


def joined(messages: list[Message]) -> list[Message]:
    """Merge words into one text."""
    return [message_of({"type": "text", "text": text_of(messages)})]


async def continued(
    messages: list[Message], answer: str, count: int, pause: float
) -> AsyncGenerator[dict[str, str]]:
    """Continue after the words so far."""
    first = len(text_of(messages).split())
    with GENERATIONS.open("a") as file:
        file.write(f"{os.getpid()} {answer} {first}\n")
    for number in range(first, count):
        yield {"type": "text", "text": word(number)}
        await asyncio.sleep(pause)


@router.run("/words", compact=joined, resume=continued)
async def words(answer: str, count: int, pause: float = 0.0) -> AsyncGenerator[dict[str, str]]:
    """Yield a number of words, with pauses in seconds."""
    async for item in continued([], answer, count, pause):
        yield item


@router.run("/once", compact=joined)
async def once(answer: str, count: int, pause: float = 0.0) -> AsyncGenerator[dict[str, str]]:
    """Yield words like `words`, but end with the process."""
    async for item in continued([], answer, count, pause):
        yield item


async def deadly_again(messages: list[Message], answer: str) -> AsyncGenerator[dict[str, str]]:
    async for item in continued(messages, answer, 100, 0):
        yield item
        await asyncio.sleep(2 * ALIVE_SECONDS)  # Long enough to be known to other processes.
        os._exit(1)


@router.run("/deadly", resume=deadly_again)
async def deadly(answer: str) -> AsyncGenerator[dict[str, str]]:
    """Kill the process after a word."""
    async for item in deadly_again([], answer):
        yield item


CHAT = f"{app.__package__}.engine.realtime.chat"
if find_spec(CHAT):

    @router.get("/{run_id}/parts")
    async def parts(run_id: str, runs: RunsDep) -> RunStream:
        """Send a run to a client of the AI SDK."""
        return RunStream(runs, run_id, reader=import_module(CHAT).UIMessageReader(run_id))


def create_app(settings: Settings) -> Service:
    vars(runs_router)["ALIVE_SECONDS"] = ALIVE_SECONDS
    runs_module.RESUME_SECONDS, runs_module.MOST_RESUMED = 0.1, 2
    made = app.create_app(settings)
    made.include_router(router)
    return made


if __name__ == "__main__":
    cli.main(create_app, Settings)
