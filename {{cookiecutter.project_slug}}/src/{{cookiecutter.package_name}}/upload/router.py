"""`POST /files`: store the body of a request as one file."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from ..storage import StorageDep, StoredFile, file_url
from ..streaming import Admission, RequestBody, digest_field
from .descriptions import digester_of, draft_of

router = APIRouter(tags=["upload"])

#: For OpenAPI: a body parameter would make FastAPI read the body before we can.
_ANY_BODY: dict[str, Any] = {
    "parameters": [
        {
            "name": "filename",
            "in": "query",
            "required": False,
            "schema": {"type": "string"},
            "description": "The file's name; else `Content-Disposition` says it.",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    },
}


@router.post(
    "/files",
    status_code=201,
    openapi_extra=_ANY_BODY,
    dependencies=[Depends(Admission("upload"))],
)
async def upload_file(request: Request, response: Response, storage: StorageDep) -> StoredFile:
    """Store the raw body as a file; answers when it is durable.

    `Content-Digest` and `Repr-Digest` are verified, `Want-Repr-Digest` is answered (RFC 9530).
    """
    body = RequestBody(request, limit=request.app.state.settings.upload.max_size)
    digester = digester_of(request)
    tap = digester.update if digester else None
    async with storage.create(draft_of(request), tap) as writer:
        async for chunk in body:
            await writer.write(chunk)
        await writer.flush()
        digester.verify()
        record = await writer.commit(digester.encoded() or None)

    url = file_url(request, record.id)
    response.headers["Location"] = url
    if record.digest:
        response.headers["Repr-Digest"] = digest_field(record.digest)
    return StoredFile(**record.model_dump(), url=url)
