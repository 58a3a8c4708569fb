"""Tokens as FastAPI sends them itself, straight from the generator. For measurements only.

python -m uvicorn naive_runs:app
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel

app = FastAPI()


class Text(BaseModel):
    """A token."""

    type: str = "text"
    text: str


def token(number: int) -> str:
    """Return a token of eight characters; one of them occurs only in tokens."""
    return f"~{number:06} "


@app.get("/health/live")
async def live() -> dict[str, str]:
    return {"status": "live"}


async def generate(count: int, pause: float) -> AsyncGenerator[Text]:
    for number in range(count):
        yield Text(text=token(number))
        await asyncio.sleep(pause)


@app.get("/tokens/native", response_class=EventSourceResponse)
async def native(count: int, pause: float) -> AsyncIterable[Text]:
    async for each in generate(count, pause):
        yield each
