"""What happens to files, as events of the topic `files`: callbacks for `Files`.

`file.progress` (`id`, `size`: bytes so far), `file.stored` (the record), `file.deleted` (the
record). Anybody who may subscribe sees them: give that a thought where files have owners.
"""

import asyncio
from typing import Any

import pydantic_core
from fastapi import FastAPI

from ..storage.interface import Callbacks
from ..storage.records import FileRecord
from .backends import Once
from .hub import Hub
from .messages import Message

__all__ = ["file_events"]

TOPIC = "files"
#: Seconds between two events about the progress of one upload.
PROGRESS_SECONDS = 0.1
#: Uploads whose last progress is remembered.
MAX_UPLOADS = 1000


def file_events(app: FastAPI) -> Callbacks:
    """Return callbacks that publish what happens to files; `Files` takes this function."""
    hub: Hub = app.state.hub
    told: dict[str, float] = {}
    under_way: set[asyncio.Task[Any]] = set()

    async def publish(event: str, data: object, key: str, once: Once | None = None) -> None:
        text = pydantic_core.to_json(data).decode()
        await hub.publish(TOPIC, Message(text, event, is_json=True, key=key), once)

    async def on_stored(record: FileRecord) -> None:
        file_id = record.id
        told.pop(file_id, None)
        # Called again after a crash; told only once.
        await publish("file.stored", record, file_id, Once(f"file.stored {file_id}", ""))

    async def on_deleted(record: FileRecord) -> None:
        await publish("file.deleted", record, record.id)

    async def on_progress(file_id: str, size: int) -> None:
        now = asyncio.get_running_loop().time()
        if under_way or now - told.get(file_id, 0.0) < PROGRESS_SECONDS:
            return
        told.pop(file_id, None)
        told[file_id] = now  # The last that would be forgotten.
        if len(told) > MAX_UPLOADS:
            del told[next(iter(told))]
        # Not awaited: an upload does not wait for the broker, nor fail with it.
        data = {"id": file_id, "size": size}
        task = asyncio.create_task(publish("file.progress", data, file_id))
        under_way.add(task)
        task.add_done_callback(ended)

    def ended(task: asyncio.Task[Any]) -> None:
        under_way.discard(task)
        if not task.cancelled():
            task.exception()  # Seen: the next one may get through.

    return Callbacks(on_stored=on_stored, on_deleted=on_deleted, on_progress=on_progress)
