"""The request headers that describe an uploaded file, and the response with its record.

Sources: RFC 9110, sections 8.3 (Content-Type) and 8.4 (Content-Encoding); RFC 6266.
"""

import re
from collections.abc import Mapping
from contextlib import suppress

from fastapi import Request
from fastapi.responses import JSONResponse

from ..kernel.body import partial_body
from ..kernel.principal import principal_of
from ..kernel.problem import Problem
from ..storage.records import Draft, FileRecord, clean_filename
from ..storage.router import StoredFile, file_url
from ..streams.content import parameters, refuse_coding
from ..streams.digests import digest_field
from .media_types import content_type_of

#: The number of pieces of one file, as Dropzone, resumable.js, flow.js and Fine Uploader send it.
_TOTALS = ("dztotalchunkcount", "resumableTotalChunks", "flowTotalChunks", "qqtotalparts")
#: Plupload's fields have common names: they count only when all of them are there.
_PLUPLOAD = {"name", "chunk", "chunks"}
_SEVERAL = re.compile(r"0*(?:[2-9]|[1-9]\d+)", re.ASCII)


def draft_of(request: Request) -> Draft:
    """Return the name, media type and owner of the file in a request body.

    Raises Problem 400 for a piece of a file, 415 for a form or a body with a content coding.
    """
    refuse_coding(request)
    headers, query = request.headers, request.query_params
    if headers.get("content-type", "").lower().startswith("multipart/"):
        raise Problem(415, "Send the file itself as the body, not a form.")
    refuse_pieces(query)
    filename = clean_filename(query.get("filename") or _disposition_name(headers))
    content_type = content_type_of(headers.get("content-type", ""), filename)
    return Draft(filename=filename, content_type=content_type, owner=owner_of(request))


def refuse_pieces(fields: Mapping[str, str]) -> None:
    """Raise Problem 400 when the fields of a form or a query count several pieces of one file."""
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


def stored_answer(request: Request, stored: FileRecord | list[FileRecord]) -> JSONResponse:
    """Return 201 with the record of a file and its URL, or with the records of several."""
    records = stored if isinstance(stored, list) else [stored]
    shown = [
        StoredFile(**record.model_dump(), url=file_url(request, record.id)).model_dump(mode="json")
        for record in records
    ]
    if isinstance(stored, list):
        return JSONResponse(shown, 201)
    headers = {"Location": shown[0]["url"]}
    if stored.digest:
        headers["Repr-Digest"] = digest_field(stored.digest)
    return JSONResponse(shown[0], 201, headers)


def _disposition_name(headers: Mapping[str, str]) -> str | None:
    """Return the file name in `Content-Disposition` (RFC 6266, section 4.3), if any."""
    field = headers.get("content-disposition", "")
    with suppress(UnicodeDecodeError):
        field = field.encode("latin-1").decode()  # curl and browsers send raw UTF-8.
    with suppress(ValueError):
        return parameters(field)[1].get("filename")
    return None
