"""`serve import PATH…`: put files that are here already into the store."""

import asyncio
import mimetypes
import sys
from pathlib import Path
from typing import Any

import aiofiles

from ..kernel.problem import Problem
from .interface import Storage
from .opening import open_storage
from .records import Draft, FileRecord, clean_filename
from .settings import StorageSettings

CHUNK = 1 << 20


def import_files(settings: Any, paths: list[str]) -> None:
    """Store each file and print its id and name; exit with 1 when one of them cannot be stored."""
    if not paths:
        sys.exit("serve import PATH…: which files?")
    sys.exit(asyncio.run(_import(settings.storage, paths)))


async def _import(settings: StorageSettings, paths: list[str]) -> int:
    exit_code = 0
    async with open_storage(settings) as storage:
        for path in map(Path, paths):
            try:
                record = await _store(storage, path)
                sys.stdout.write(f"{record.id} {record.filename}\n")
            except (OSError, Problem) as error:
                exit_code = 1
                reason = error.detail if isinstance(error, Problem) else error.strerror
                sys.stderr.write(f"{path}: {reason}\n")
    return exit_code


async def _store(storage: Storage, path: Path) -> FileRecord:
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    draft = Draft(filename=clean_filename(path.name), content_type=content_type)
    async with aiofiles.open(path, "rb") as file, storage.create(draft) as writer:
        while chunk := await file.read(CHUNK):
            await writer.write(chunk)
        return await writer.commit()
