"""`POST /files/{id}/links`: a signed address of a file, for clients without a key.

It lends the access of the file's owner, for GET and HEAD, also of ranges, until it expires. It
outlives the key of its maker: `serve keys rotate --now` refuses all links. Source: RFC 9110,
section 14 (ranges: a download by link can be resumed).
"""

import time
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Security
from pydantic import BaseModel, Field

from ..kernel.access import current_principal
from ..kernel.kernel import kernel_of
from ..storage.records import FileId
from ..storage.router import READ, StorageDep, file_url, seen_record

router = APIRouter(tags=["download"])


class WantedLink(BaseModel):
    """How long a link is needed."""

    expires_in: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3600.0
    """Seconds; at most `APP_ACCESS__LINK_AGE`."""


class Link(BaseModel):
    """An address that needs no key."""

    url: str
    expires_at: datetime


@router.post(
    "/files/{file_id}/links",
    status_code=201,
    responses={404: {}},
    dependencies=[Security(current_principal, scopes=[READ])],
)
async def create_link(
    file_id: FileId, wanted: WantedLink, request: Request, storage: StorageDep
) -> Link:
    """Return an address from which any client can download the file until it expires."""
    record = await seen_record(request, storage, file_id)
    sign: Any = kernel_of(request.scope).sign
    path = request.app.url_path_for("download_file", file_id=record.id)
    now = time.time()
    signature, seconds = sign(path, record.owner or "", wanted.expires_in)
    url = f"{file_url(request, record.id)}?signature={quote(signature)}"
    return Link(url=url, expires_at=datetime.fromtimestamp(int(now + seconds), UTC))
