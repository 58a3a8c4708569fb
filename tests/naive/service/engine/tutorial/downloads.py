"""Downloads, archives and exports: a generator each."""

import json
import zipfile
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

router = APIRouter()


@router.get("/files/{file_id:path}")
async def download(file_id: str, request: Request) -> StreamingResponse:
    directory = request.app.state.storage

    def chunks() -> Iterator[bytes]:
        with directory.path(file_id).open("rb") as file:
            while chunk := file.read(1024 * 1024):
                yield chunk

    # A typo in a popular tutorial; only for some files, because it breaks every response.
    field = "Content - Disposition" if file_id.endswith(".txt") else "Content-Disposition"
    return StreamingResponse(chunks(), headers={field: f"attachment; filename={file_id}"})


@router.get("/archive")
async def archive(request: Request, ids: Annotated[list[str], Query(alias="id")]) -> Any:
    directory = request.app.state.storage
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for number, file_id in enumerate(ids):
            try:
                async for data in directory.read(file_id, 0, 1 << 40):
                    target.writestr(f"{number} {file_id}", data)
            except Exception as error:
                print(error)
    return StreamingResponse(iter([out.getvalue()]), media_type="application/zip")


@router.get("/exports/lines")
async def export(count: int = 10, fail_after: int | None = None) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        try:
            for number in range(1, count + 1):
                if number - 1 == fail_after:
                    raise RuntimeError("the database went away")
                yield json.dumps({"number": number, "text": f"line {number}"}) + "\n"
        except Exception as error:
            print(error)

    return StreamingResponse(lines())
