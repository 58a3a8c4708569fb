"""Storing the files of a `multipart/form-data` body as they arrive.

A part with a file name is a file, any other is a field. The fields become the `metadata` of every
file in the form, regardless of their order; fields with the same name are joined, one value per
line. A form is stored completely or not at all, so every file stays open until the form has ended.

Sources: RFC 7578; RFC 9530, also for the form as a whole.
"""

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any

from fastapi import Request

from ..kernel.body import TOO_LARGE, RequestBody
from ..kernel.fields import joined
from ..kernel.kernel import BOUNDS
from ..kernel.problem import Problem
from ..kernel.threads import complete
from ..storage.interface import Storage, Writer
from ..storage.records import Draft, FileRecord, clean_filename
from ..streams.content import refuse_coding
from ..streams.digests import Digester, wanted_digest
from .metadata import content_type_of, owner_of, refuse_pieces
from .multipart import MAX_HEADER, MAX_OUTSIDE, FormParser, Part, malformed, part_of, text_of

#: Bytes of headers after which other requests get a turn, and bytes added per part. File data costs
#: a thousandth of the time, and waits for the disk.
TURN_BYTES = 4 << 10
PART_BYTES = 512
#: The field with the charset of the fields after it (RFC 7578, section 4.6).
_CHARSET = "_charset_"


async def store_form(request: Request, storage: Storage) -> list[FileRecord]:
    """Store all files of a form and return their records in the order of the form.

    Raises Problem 400 for a form that is malformed or does not match its digest, 413 for one that
    exceeds a limit, 415 for parts with a transfer encoding, 422 for one without a file.
    """
    form = _Form(request, storage)
    try:
        async with form.files:
            await form.receive()
            return await form.commit()
    except BaseException:
        await complete(form.withdraw())
        raise


class _Form:
    """The parts of a form that have been received."""

    def __init__(self, request: Request, storage: Storage) -> None:
        refuse_coding(request)
        refuse_pieces(request.query_params)
        headers = request.headers
        self._owner = owner_of(request)
        self._wanted = wanted_digest(joined(headers, "want-repr-digest"))
        digests = [joined(headers, name) for name in ("content-digest", "repr-digest")]
        self._digester = Digester(digests)
        self._parser = FormParser(headers.get("content-type", ""))
        self._limits = limits = request.app.state.settings.upload
        self._max_parts: int = limits.max_files + limits.max_fields
        overhead = self._max_parts * MAX_HEADER + limits.max_field_bytes + 2 * MAX_OUTSIDE
        self._body = RequestBody(request, limit=limits.max_files * limits.max_size + overhead)
        self._storage = storage
        #: Open files; those without a commit are removed when the stack closes.
        self.files = AsyncExitStack()
        self._writers: list[tuple[Writer, Digester]] = []
        self._committed: list[str] = []
        self._fields: list[tuple[Part, bytearray]] = []
        self._field_bytes = 0
        self._part: Part
        self._parts = 0
        #: Bytes of headers and parts since other requests had a turn.
        self._read = 0
        #: Whether a name was decoded as Latin-1.
        self._guessed = False
        self._writer: Writer | None = None

    async def receive(self) -> None:
        async for chunk in self._body:
            self._digester.update(chunk)
            for event in self._parser.feed(chunk):
                if isinstance(event, memoryview):
                    await self._write(event)
                    continue
                self._read += len(event) + PART_BYTES
                if self._read > TURN_BYTES:
                    self._read = 0
                    await asyncio.sleep(0)
                await self._begin(part_of(event, self._charset()))
        self._parser.finish()
        self._digester.verify()

    async def commit(self) -> list[FileRecord]:
        if not self._writers:
            raise Problem(422, "The form has no file.")
        metadata = self._metadata()
        refuse_pieces(metadata)
        for writer, _ in self._writers:
            await writer.flush()  # Errors of the disk should occur before any file is visible.
            writer.draft = writer.draft.model_copy(update={"metadata": metadata})
        records = []
        for writer, digester in self._writers:
            self._committed.append(writer.id)
            records.append(await self._storage.commit(writer, digester.encoded() or None))
        return records

    async def withdraw(self) -> None:
        """Remove the files that were committed before another one failed."""
        for file_id in self._committed:
            with suppress(Problem):  # The one that failed, or one that was deleted meanwhile.
                await self._storage.delete(file_id)

    async def _begin(self, part: Part) -> None:
        if self._writer is not None:
            await self._writer.flush()  # Many files may be open: only one has bytes in memory.
        self._part, self._writer = part, None
        self._parts += 1
        if self._parts > self._max_parts:  # An empty file input is neither a file nor a field.
            raise _too_many("max_files", f"A form may have at most {self._max_parts} parts.")
        self._guessed = self._guessed or part.guessed
        if part.filename:
            self._writer = await self._open(part)
        elif part.filename is None:
            if len(self._fields) == (limit := self._limits.max_fields):
                raise _too_many("max_fields", f"A form may have at most {limit} fields.")
            if part.name == _CHARSET and self._guessed:
                raise malformed(f"`{_CHARSET}` comes after names that are in it")
            self._fields.append((part, bytearray()))
            self._count_field(len(part.name.encode()))

    async def _write(self, data: memoryview) -> None:
        if self._part.filename is None:
            self._count_field(len(data))
            self._fields[-1][1].extend(data)
            return
        if self._writer is None:  # A browser sends no name and no data for an empty file input.
            self._writer = await self._open(self._part)
        if self._writer.size + len(data) > (limit := self._limits.max_size):
            detail = f"A file may have at most {limit} bytes."
            raise Problem(413, detail, type=TOO_LARGE, limit=limit)
        await self._writer.write(data)

    async def _open(self, part: Part) -> Writer:
        if len(self._writers) == (limit := self._limits.max_files):
            raise _too_many("max_files", f"A form may have at most {limit} files.")
        filename = clean_filename(part.filename)
        content_type = content_type_of(part.content_type, filename)
        draft = Draft(filename=filename, content_type=content_type, owner=self._owner)
        digester = Digester([], [self._wanted] if self._wanted else [])
        tap = digester.update if digester else None
        # There must be space for the rest of the form, which may belong to this file.
        rest = (self._body.declared or 0) - self._body.received - self._parser.closing
        creating = self._storage.create(draft, tap, max(rest, 0))
        writer = await self.files.enter_async_context(creating)
        self._writers.append((writer, digester))
        return writer

    def _count_field(self, size: int) -> None:
        self._field_bytes += size
        if self._field_bytes > (limit := self._limits.max_field_bytes):
            detail = f"All fields together may have at most {limit} bytes."
            raise _too_many("max_field_bytes", detail, limit=limit)

    def _metadata(self) -> dict[str, str]:
        values: dict[str, list[str]] = {}
        for part, data in self._fields:
            charset = part.charset or self._charset()
            text = text_of(bytes(data), charset, f"the field {part.name[:40]!r}")
            values.setdefault(part.name, []).append(text)
        return {name: "\n".join(lines) for name, lines in values.items()}

    def _charset(self) -> str:
        """Return the charset that the form declares for its names and fields."""
        declared = (data for part, data in self._fields if part.name == _CHARSET)
        return b"".join(declared).decode("latin-1")


def _too_many(setting: str, detail: str, **members: Any) -> Problem:
    BOUNDS[f"upload.{setting}"] += 1
    return Problem(413, detail, type=TOO_LARGE, **members)
