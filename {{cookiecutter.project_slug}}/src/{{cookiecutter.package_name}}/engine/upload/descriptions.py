"""What the headers of an upload say of the file; nothing of it is believed, all of it is kept.

Sources: RFC 9110, sections 8.3 (Content-Type) and 8.4 (Content-Encoding); RFC 6266.
"""

import mimetypes
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from ..kernel.admission import principal_of
from ..kernel.body import partial_body
from ..kernel.fields import joined
from ..kernel.problem import Problem
from ..storage.records import Draft, FileRecord, clean_filename
from ..storage.router import StoredFile, file_url
from ..streams.content import parameters, refuse_coding
from ..streams.digests import Digester, digest_field, wanted_digest

_MEDIA_TYPE = re.compile(
    r"[\w!#$&^.+-]+/[\w!#$&^.+-]+"
    r'([ \t]*;[ \t]*[\w!#$&^.+-]+=([\w!#$&^.+-]+|"[^"\\\x00-\x1f\x7f-\U0010ffff]*"))*[ \t;]*',
    re.ASCII,
)
_UNKNOWN = "application/octet-stream"
#: How Dropzone, resumable.js, flow.js and Fine Uploader count the pieces of one file.
_TOTALS = ("dztotalchunkcount", "resumableTotalChunks", "flowTotalChunks", "qqtotalparts")
#: Plupload's fields could be anybody's: only all of them together are taken for its own.
_PLUPLOAD = {"name", "chunk", "chunks"}
_SEVERAL = re.compile(r"0*(?:[2-9]|[1-9]\d+)", re.ASCII)


def draft_of(request: Request) -> Draft:
    """Return what a request says of the file in its body.

    Raises Problem 415 for a body that is no raw file: stored as it is, it would be a wrong one.
    """
    refuse_coding(request)
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise Problem(415, "Send the file itself as the body, not a form.")
    refuse_pieces(request.query_params)
    name = request.query_params.get("filename")
    filename = clean_filename(name or disposition_name(request.headers.get("content-disposition")))
    content_type = content_type_of(request.headers.get("content-type", ""), filename)
    return Draft(filename=filename, content_type=content_type, owner=owner_of(request))


def refuse_pieces(fields: Mapping[str, str]) -> None:
    """Raise Problem 400 when the fields of a form, or of its address, count pieces of one file."""
    totals = [fields.get(name, "") for name in _TOTALS]
    if fields.keys() >= _PLUPLOAD:
        totals.append(fields["chunks"])
    if any(_SEVERAL.fullmatch(total) for total in totals):
        raise partial_body("A field of the upload")


def is_form(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0]
    return media_type.strip().lower() == "multipart/form-data"


def owner_of(request: Request) -> str | None:
    principal = principal_of(request)
    return principal.id if principal else None


def digester_of(request: Request) -> Digester:
    headers = request.headers
    fields = headers.getlist("content-digest") + headers.getlist("repr-digest")
    wanted = wanted_digest(joined(headers, "want-repr-digest"))
    return Digester(fields, [wanted] if wanted else [])


def disposition_name(field: str | None) -> str | None:
    """Return the file name in a `Content-Disposition` field (RFC 6266, section 4.3), if any."""
    if field is None:
        return None
    with suppress(UnicodeDecodeError):
        field = field.encode("latin-1").decode()  # curl and browsers send UTF-8 as it is.
    with suppress(ValueError):
        return parameters(field)[1].get("filename")
    return None


def content_type_of(offered: str, filename: str) -> str:
    """Return the media type that a client names, or else the one of the file name's ending."""
    offered = offered.strip()
    # curl calls every body a form unless it is told otherwise.
    is_form = offered.startswith("application/x-www-form-urlencoded")
    if _MEDIA_TYPE.fullmatch(offered) and not is_form:
        return offered
    return mimetypes.guess_type(filename)[0] or _UNKNOWN


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
