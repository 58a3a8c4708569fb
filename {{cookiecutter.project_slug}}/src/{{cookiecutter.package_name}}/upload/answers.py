"""What the service answers when files have been stored."""

from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from ..storage import FileRecord, StoredFile, file_url
from ..streaming import digest_field


def stored_answer(request: Request, stored: FileRecord | list[FileRecord]) -> JSONResponse:
    """Return 201 with the record of a file and its address, or with the records of several."""
    if isinstance(stored, list):
        return JSONResponse([_shown(request, record) for record in stored], 201)
    shown = _shown(request, stored)
    headers = {"Location": shown["url"]}
    if stored.digest:
        headers["Repr-Digest"] = digest_field(stored.digest)
    return JSONResponse(shown, 201, headers)


def _shown(request: Request, record: FileRecord) -> dict[str, Any]:
    url = file_url(request, record.id)
    return StoredFile(**record.model_dump(), url=url).model_dump(mode="json")
