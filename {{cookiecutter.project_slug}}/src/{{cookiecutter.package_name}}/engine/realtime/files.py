"""Events of files on the topic `files`: callbacks for `Files`.

`file.progress` (`size`: bytes so far), `file.stored` and `file.deleted` (the record). All have
`upload`, the first 32 hexadecimal digits of the SHA-256 of the file's id. With access control they
are published on `files.OWNER`, and a client that follows `files` receives those that it may see.
"""

import asyncio
import hashlib
from typing import Any

import pydantic_core
from fastapi import FastAPI
from starlette.requests import HTTPConnection

from ..kernel.access import principal_of
from ..kernel.work import current
from ..storage.interface import Callbacks
from ..storage.records import FileRecord
from .hub import Hub
from .messages import Message, Once
from .topics import is_topic

__all__ = ["file_events"]

TOPIC = "files"
#: Seconds between two events about the progress of one upload.
PROGRESS_SECONDS = 0.1
#: Uploads of which the time of the last progress event is kept.
MAX_UPLOADS = 1000


def file_events(app: FastAPI) -> Callbacks:
    """Return callbacks that publish the events of files; `Files` takes this function."""
    hub: Hub = app.state.hub
    hub.read_only.add(TOPIC)
    if app.state.kernel.challenge is not None:
        hub.read_only.add(f"{TOPIC}.*")
        hub.personal.add(TOPIC)
    published_at: dict[str, float] = {}
    under_way: set[asyncio.Task[Any]] = set()

    async def publish(
        owner: str | None, event: str, file_id: str, /, once: Once | None = None, **data: Any
    ) -> None:
        # The id of an unfinished upload would let every subscriber continue or delete it.
        name = hashlib.sha256(file_id.encode()).hexdigest()[:32]
        text = pydantic_core.to_json({**data, "upload": name}).decode()
        message = Message(text, event, is_json=True, key=name)
        await hub.publish(_topic_of(owner, hub), message, once)

    async def on_stored(record: FileRecord) -> None:
        file_id = record.id
        published_at.pop(file_id, None)
        # Called again after a crash, but published only once.
        once = Once(f"file.stored {file_id}", "")
        await publish(record.owner, "file.stored", file_id, once, **record.model_dump())

    async def on_deleted(record: FileRecord) -> None:
        await publish(record.owner, "file.deleted", record.id, **record.model_dump())

    async def on_progress(file_id: str, size: int) -> None:
        now = asyncio.get_running_loop().time()
        if under_way or now - published_at.get(file_id, 0.0) < PROGRESS_SECONDS:
            return
        published_at.pop(file_id, None)
        published_at[file_id] = now  # Re-inserted as the newest; the oldest is evicted first.
        if len(published_at) > MAX_UPLOADS:
            del published_at[next(iter(published_at))]
        # Not awaited, so that an upload neither waits for the broker nor fails with it.
        task = asyncio.create_task(publish(_sender(), "file.progress", file_id, size=size))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        task.add_done_callback(_retrieve)

    return Callbacks(on_stored=on_stored, on_deleted=on_deleted, on_progress=on_progress)


def _topic_of(owner: str | None, hub: Hub) -> str:
    own = f"{TOPIC}.{owner}" if owner and hub.personal else TOPIC
    # Records of other releases can have an owner that is not a part of a topic.
    return own if is_topic(own) else TOPIC


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Retrieve the error of a task without raising it: the next event may succeed."""
    if not task.cancelled():
        task.exception()


def _sender() -> str | None:
    """Return the id of the principal whose request is being handled."""
    guard = current.get(None)
    principal = guard and principal_of(HTTPConnection(guard.exchange.scope))
    return principal.id if principal else None
