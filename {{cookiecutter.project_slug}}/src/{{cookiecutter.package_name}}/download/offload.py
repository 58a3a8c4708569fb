"""Letting nginx send what the service has decided on: `APP_DOWNLOAD__OFFLOAD=x-accel-redirect`.

nginx sends the file that X-Accel-Redirect names, and looks at the request's Range and conditions
once more. What it might decide differently, the service sends itself.
"""

import re
from collections.abc import Mapping

from fastapi import Request, Response

from ..storage import FileRecord, Storage
from ..storage.local import LocalStorage
from ..streaming import joined

#: One range as nginx reads it; of numbers with more digits it says that they lie outside the file.
_RANGE = re.compile(r"(?i)bytes=(\d{1,18}-\d{0,18}|-\d{1,18})", re.ASCII)
#: What nginx makes itself.
_FRAMING = {"accept-ranges", "content-length", "content-range"}


def offload(
    request: Request, storage: Storage, record: FileRecord, headers: Mapping[str, str]
) -> Response | None:
    """Return the answer to a GET with which nginx sends the file, or the range that was selected.

    `headers` are those of the answer that the service would send itself. None when it should.
    """
    if request.app.state.settings.download.offload != "x-accel-redirect":
        return None
    if not isinstance(storage, LocalStorage) or not _decides_alike(request, record, headers):
        return None
    kept = {name: value for name, value in headers.items() if name.lower() not in _FRAMING}
    path = storage.path(record.id).relative_to(storage.root).as_posix()
    return Response(headers={**kept, "X-Accel-Redirect": f"/_{path}"})


def _decides_alike(request: Request, record: FileRecord, headers: Mapping[str, str]) -> bool:
    asked = request.headers
    if request.method != "GET" or "if-match" in asked or "if-unmodified-since" in asked:
        return False
    if "range" not in asked:
        return True
    one = _RANGE.fullmatch(joined(asked, "range"))
    applies = asked.get("if-range", record.etag) == record.etag
    return one is not None and applies and "Content-Range" in headers
