"""tus 1.0.0: resumable uploads for the clients of tus.io.

Core protocol, and the extensions creation, creation-with-upload, creation-defer-length, expiration,
checksum, termination, concatenation and concatenation-unfinished. An upload becomes a file when its
last byte arrives.

Source: tus resumable upload protocol 1.0.0 (tus.io/protocols/resumable-upload).
"""

import hashlib
import re
import zlib
from contextlib import suppress
from email.utils import formatdate
from urllib.parse import urljoin

from fastapi import Request, Response

from ...kernel.access import require
from ...kernel.admission import client_of
from ...kernel.body import TOO_LARGE
from ...kernel.exchange import exchange_of
from ...kernel.kernel import BOUNDS
from ...kernel.problem import Problem
from ...storage.partials import Partial
from ...storage.records import Draft, clean_filename, is_id
from ...storage.router import DELETE
from ...streams.digests import MISMATCH
from ...streams.structured import decode_base64
from ..metadata import content_type_of, owner_of, owns
from .sessions import Session, body_of, check_media_type, resource_headers, sessions_of, uploads_url

VERSION = "1.0.0"
MEDIA_TYPE = "application/offset+octet-stream"
EXTENSIONS = (
    "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination,"
    "concatenation,concatenation-unfinished"
)
ALGORITHMS = ("sha1", "sha256", "sha512", "md5", "crc32")
#: Bytes of `Upload-Metadata`, which is stored and returned unchanged.
MAX_METADATA = 8 << 10
#: Bytes of `Upload-Metadata` and `Upload-Concat`, which is returned too. The headers of a response
#: then fit into 16 KiB, as proxies require.
MAX_RETURNED = 12 << 10

_INTEGER = re.compile(r"\d+", re.ASCII)
#: A key without spaces and commas, and its value in base64; the value may be missing.
_PAIR = re.compile(r"([!-+\--~]+)(?: ([A-Za-z0-9+/=]*))?")


def is_spoken(request: Request) -> bool:
    return "tus-resumable" in request.headers


def method_of(request: Request) -> str:
    """Return the method of a request, or the one in `X-HTTP-Method-Override` with tus."""
    if not is_spoken(request):
        return request.method
    return request.headers.get("x-http-method-override", request.method).strip().upper()


def options(request: Request) -> dict[str, str]:
    return {
        "Tus-Version": VERSION,
        "Tus-Resumable": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(request.app.state.settings.upload.max_size),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }


def check_version(request: Request) -> None:
    """Raise Problem 412 for an unsupported version."""
    if request.headers.getlist("tus-resumable") != [VERSION]:
        raise Problem(412, f"The version must be {VERSION}.", headers={"Tus-Version": VERSION})


async def create(request: Request) -> Response:
    """Create an upload, optionally with its first bytes, or concatenate parts."""
    partial = await _partial_of(request)
    body = body_of(request, partial.length)
    has_body = not exchange_of(request.scope).body_complete
    if has_body:
        if partial.parts:
            raise Problem(400, "A final upload has no bytes of its own.")
        check_media_type(request, MEDIA_TYPE)
    check = _checksum_of(request)
    sessions = sessions_of(request)
    await sessions.add(partial)
    async with sessions.hold(partial.id) as session:
        try:
            if has_body:
                await session.receive(body, partial.length, check)
            await session.finish_if_complete()
        except BaseException:
            await session.discard()  # The client does not get its URL.
            raise
        headers = _state(request, session)
        if not has_body:
            headers.pop("Upload-Offset", None)
    headers["Location"] = f"{uploads_url(request)}/{partial.id}"
    return Response(status_code=201, headers=headers)


async def offset(request: Request, upload_id: str) -> Response:
    async with sessions_of(request).hold(upload_id, request) as session:
        await session.finish_if_complete()
        headers = resource_headers(request, session) | _state(request, session)
        parts = session.partial.parts
        if session.length is None and not parts:
            headers["Upload-Defer-Length"] = "1"
        elif session.length is None and (length := await _sum(request, parts)) is not None:
            headers["Upload-Length"] = str(length)
    return Response(headers=headers | session.partial.fields)


async def append(request: Request, upload_id: str) -> Response:
    check_media_type(request, MEDIA_TYPE)
    start = _integer(request, "Upload-Offset")
    if start is None:
        raise Problem(400, "Upload-Offset is missing.")
    declared = _integer(request, "Upload-Length")
    check = _checksum_of(request)
    sessions = sessions_of(request)
    async with sessions.hold(upload_id, request) as session:
        try:
            if session.partial.parts:
                raise Problem(403, "A final upload takes no bytes.")
            if start != session.offset:
                raise Problem(409, f"The upload ends at byte {session.offset}.")
            length = session.length
            if declared is not None and declared != length:
                if length is not None or declared < session.offset:
                    raise Problem(400, "Upload-Length is already set, or below the offset.")
                length = declared
            await session.receive(body_of(request, length, start), length, check)
        except Problem as problem:
            problem.headers = _state(request, session) | dict(problem.headers or {})
            raise
        headers = _state(request, session)
    if session.partial.is_part and session.offset == session.length:
        await sessions.finish_wholes(upload_id)
    return Response(status_code=204, headers=headers)


async def cancel(request: Request, upload_id: str) -> Response:
    """Delete an upload, and the file that it has become."""
    async with sessions_of(request).hold(upload_id, request) as session:
        if session.record:
            require(request, DELETE)
            await request.app.state.storage.delete(upload_id)
        await session.discard()
    return Response(status_code=204)


def _state(request: Request, session: Session) -> dict[str, str]:
    expires_at = sessions_of(request).expires_at(session.changed_at)
    headers = {"Upload-Expires": formatdate(expires_at, usegmt=True)}
    # A final upload has no offset until it has become a file.
    if session.record or not session.partial.parts:
        headers["Upload-Offset"] = str(session.offset)
    return headers


async def _partial_of(request: Request) -> Partial:
    """Return the upload that a creation asks for; raises Problem 400, 404 or 413."""
    length = _integer(request, "Upload-Length")
    parts = await _parts_of(request)
    deferred = request.headers.getlist("upload-defer-length")
    if deferred and deferred != ["1"]:
        raise Problem(400, "Upload-Defer-Length can only be 1.")
    if parts:
        if length is not None or deferred:
            raise Problem(400, "The length of a final upload is that of its parts.")
        length = await _sum(request, parts)
    elif (length is None) is not bool(deferred):
        raise Problem(400, "Send either Upload-Length or Upload-Defer-Length.")
    lines = {name: request.headers.getlist(name) for name in ("Upload-Metadata", "Upload-Concat")}
    fields = {name: ",".join(values) for name, values in lines.items() if values}
    if sum(map(len, fields.values())) > MAX_RETURNED:
        detail = f"Upload-Metadata and Upload-Concat may have at most {MAX_RETURNED} bytes."
        raise Problem(431, detail)
    is_part = fields.get("Upload-Concat") == "partial"
    return Partial(
        draft=_draft_of(request),
        client=client_of(request),
        length=length,
        fields=fields,
        completes=not is_part,
        is_part=is_part,
        parts=parts,
    )


async def _parts_of(request: Request) -> tuple[str, ...]:
    """Return the ids of the parts of a final upload; raises Problem 400, 404 or 413."""
    fields = request.headers.getlist("upload-concat")
    if fields in ([], ["partial"]):
        return ()
    kind, _, urls = ",".join(fields).partition(";")
    limit = request.app.state.settings.upload.max_parts
    if len(urls.split()) > limit:
        BOUNDS["upload.max_parts"] += 1
        raise Problem(413, f"A file may have at most {limit} parts.", type=TOO_LARGE)
    found = [await _part_at(request, url) for url in urls.split()]
    if kind != "final" or not found:
        raise Problem(400, "Upload-Concat must be 'partial', or 'final;' and URLs of parts.")
    if len(set(found)) < len(found):
        raise Problem(400, "Upload-Concat repeats a part.")
    return tuple(found)


async def _part_at(request: Request, url: str) -> str:
    base = uploads_url(request) + "/"
    with suppress(ValueError):  # A malformed URL does not begin with the base.
        url = urljoin(base, url)
    part_id = url.removeprefix(base)
    if not url.startswith(base) or not is_id(part_id):
        raise Problem(400, "A part must be an upload of this service.")
    part, _ = await sessions_of(request).partials.load(part_id)
    if part is None or part.expired_at or not owns(request, part.draft.owner):
        raise Problem(404, "There is no upload at the URL of a part.")
    if not part.is_part:
        raise Problem(400, "Only a partial upload can be a part.")
    return part_id


async def _sum(request: Request, parts: tuple[str, ...]) -> int | None:
    """Return the total length of parts; None while one of them has no length."""
    found = [await sessions_of(request).partials.load(part) for part in parts]
    lengths = [part.length if part else None for part, _ in found]
    return None if None in lengths else sum(filter(None, lengths))


def _draft_of(request: Request) -> Draft:
    metadata = _metadata(request.headers.getlist("upload-metadata"))
    filename = clean_filename(metadata.pop("filename", None) or metadata.pop("name", None))
    declared = metadata.pop("filetype", None) or metadata.pop("type", None)
    content_type = content_type_of(declared or "", filename)
    owner = owner_of(request)
    return Draft(filename=filename, content_type=content_type, metadata=metadata, owner=owner)


def _metadata(fields: list[str]) -> dict[str, str]:
    """Parse `Upload-Metadata`: comma-separated pairs of a key and text in base64."""
    found: dict[str, str] = {}
    for pair in ",".join(fields).split(",") if any(fields) else []:
        match = _PAIR.fullmatch(pair.strip(" "))
        if not match or match[1] in found or sum(map(len, fields)) > MAX_METADATA:
            raise Problem(400, "Upload-Metadata must be 'key base64,key base64', each key once.")
        found[match[1]] = _decoded(match[2] or "").decode(errors="replace")
    return found


def _integer(request: Request, name: str) -> int | None:
    """Return a header with a number of bytes; raises Problem 400 for any other value."""
    values = request.headers.getlist(name)
    if not values:
        return None
    if len(values) > 1 or not _INTEGER.fullmatch(values[0]):
        raise Problem(400, f"{name} must be a number of bytes.")
    # Longer numbers exceed every limit, but would be slow to parse.
    return int(values[0]) if len(values[0]) < 19 else 1 << 62


class Checksum:
    """The checksum of the bytes of one request; raises Problem 400 for a malformed field."""

    def __init__(self, field: str) -> None:
        algorithm, _, value = field.partition(" ")
        if algorithm not in ALGORITHMS or not value:
            raise Problem(400, f"A checksum must be '{'|'.join(ALGORITHMS)} base64'.")
        self._expected, self._crc32 = _decoded(value), 0
        is_crc32 = algorithm == "crc32"
        self._hash = None if is_crc32 else hashlib.new(algorithm, usedforsecurity=False)

    def update(self, data: bytes | memoryview) -> None:
        if self._hash is None:
            self._crc32 = zlib.crc32(data, self._crc32)
        else:
            self._hash.update(data)

    def verify(self) -> None:
        """Raise Problem 460 when the bytes do not match."""
        found = self._crc32.to_bytes(4, "big") if self._hash is None else self._hash.digest()
        if found != self._expected:
            raise Problem(460, "The bytes do not match their checksum.", type=MISMATCH)


def _checksum_of(request: Request) -> Checksum | None:
    fields = request.headers.getlist("upload-checksum")
    return Checksum(", ".join(fields)) if fields else None


def _decoded(text: str) -> bytes:
    """Decode base64; raises Problem 400."""
    try:
        return decode_base64(text)
    except ValueError:  # Also text that is not ASCII.
        raise Problem(400, "A value is not valid base64.") from None
