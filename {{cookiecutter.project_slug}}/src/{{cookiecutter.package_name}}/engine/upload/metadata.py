"""The metadata of an uploaded file: its name, owner and media type, and the types that are allowed.

Sources: RFC 9110, sections 8.3 (Content-Type) and 8.4 (Content-Encoding); RFC 6266.
"""

import codecs
import fnmatch
import mimetypes
import re
from collections.abc import Mapping
from contextlib import suppress

import filetype
from fastapi import Request
from fastapi.responses import JSONResponse

from ..kernel.access import ADMIN, principal_of
from ..kernel.body import partial_body
from ..kernel.exchange import exchange_of
from ..kernel.problem import Problem, ProblemType
from ..storage.records import MAX_TYPE, Draft, FileRecord, clean_filename
from ..storage.router import StoredFile, file_url
from ..streams.content import parameters, refuse_coding
from ..streams.digests import digest_field

_MEDIA_TYPE = re.compile(
    r"[\w!#$&^.+-]+/[\w!#$&^.+-]+"
    r'([ \t]*;[ \t]*[\w!#$&^.+-]+=([\w!#$&^.+-]+|"[^"\\\x00-\x1f\x7f-\U0010ffff]*"))*[ \t;]*',
    re.ASCII,
)
_BINARY = "application/octet-stream"

NOT_STORED = ProblemType(
    "type-not-stored",
    "Files of this type are not stored",
    "The service stores files of some media types only. It checks the first bytes of the file as"
    " well as its `Content-Type`, so declaring another type does not help.",
)

#: The number of pieces of one file, as Dropzone, resumable.js, flow.js and Fine Uploader send it.
_TOTALS = ("dztotalchunkcount", "resumableTotalChunks", "flowTotalChunks", "qqtotalparts")
#: Plupload's fields have common names: they count only when all of them are present.
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


def owns(request: Request, owner: str | None) -> bool:
    """Whether the sender may use an upload of this owner; an admin may use all."""
    principal = principal_of(request)
    return owner == owner_of(request) or (principal is not None and principal.may(ADMIN))


def stored_response(request: Request, stored: FileRecord | list[FileRecord]) -> JSONResponse:
    """Return 201 with the record of a file and its URL, or with the records of several."""
    exchange_of(request.scope).guarded = False  # It is ready, and sent at once.
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


def content_type_of(declared: str, filename: str) -> str:
    """Return the media type that a client declares, or else the one of the file extension.

    Raises Problem 415 for one that is longer than MAX_TYPE.
    """
    declared = declared.strip()
    # curl sends every body as a form by default.
    is_form = declared.startswith("application/x-www-form-urlencoded")
    if _MEDIA_TYPE.fullmatch(declared) and not is_form:
        if len(declared) > MAX_TYPE:
            raise Problem(415, f"A media type may have at most {MAX_TYPE} bytes.")
        return declared
    return mimetypes.guess_type(filename)[0] or _BINARY


class AllowedTypes:
    """Refuses files whose media type is not allowed; used as `Callbacks.accept`."""

    def __init__(self, patterns: str) -> None:
        """`patterns` are media types separated by commas, such as `image/*`; empty allows all."""
        self._patterns = [p.strip().lower() for p in patterns.split(",") if p.strip()]

    def __call__(self, draft: Draft, head: bytes) -> None:
        """Raise Problem 415 when the type is not allowed; `head` has up to 4 KiB.

        The declared type must be allowed as well, because the file is stored with it.
        """
        named = draft.content_type.partition(";")[0].strip().lower()
        found = _type_of(head, named)
        for kind in {found} if named == _BINARY else {found, named}:
            if self._patterns and not any(fnmatch.fnmatchcase(kind, p) for p in self._patterns):
                raise Problem(
                    415, f"Files of the type {kind} are not stored here.", type=NOT_STORED
                )


def _type_of(head: bytes, named: str) -> str:
    """Return the media type of a file by its first bytes.

    Text has no signature: for UTF-8 without control characters, the declared kind of text counts.
    """
    kind = filetype.guess_mime(head)
    if kind:
        return str(kind)
    try:  # The last character may be incomplete.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return _BINARY
    if any(character < " " and character not in "\t\r\n\f\x1b" for character in text):
        return _BINARY
    is_svg = named == "image/svg+xml" and b"<svg" in head
    if is_svg or named.startswith("text/") or re.fullmatch(r"application/.*(json|xml)l?", named):
        return named
    return "text/plain"
