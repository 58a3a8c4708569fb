"""tus 1.0.0: uploads that can be resumed, for the clients of tus.io.

Core, creation, creation-with-upload, creation-defer-length, expiration, checksum, termination,
concatenation (also of unfinished uploads). An upload becomes a file when its last byte is there.

Source: tus resumable upload protocol 1.0.0 (tus.io/protocols/resumable-upload).
"""

import re
from contextlib import suppress
from email.utils import formatdate
from urllib.parse import urljoin, urlsplit

from fastapi import Request, Response

from ...kernel.body import TOO_LARGE, RequestBody
from ...kernel.exchange import exchange_of
from ...kernel.kernel import BOUNDS
from ...kernel.problem import Problem
from ...storage.partial import Partial
from ...storage.records import Draft, clean_filename, is_id
from ...storage.router import file_url
from ..descriptions import content_type_of, owner_of
from .checksums import ALGORITHMS, Checksum, decoded
from .fields import check_media_type, room, uploads_url
from .session import Session
from .sessions import sessions_of

VERSION = "1.0.0"
MEDIA_TYPE = "application/offset+octet-stream"
EXTENSIONS = (
    "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination,"
    "concatenation,concatenation-unfinished"
)
#: Bytes of `Upload-Metadata`: it is kept as it is and repeated.
MAX_METADATA = 8 << 10

_INTEGER = re.compile(r"\d+", re.ASCII)
#: A key without spaces and commas, and its value in base64; without a value it stands alone.
_PAIR = re.compile(r"([!-+\--~]+)(?: ([A-Za-z0-9+/=]*))?")


def is_spoken(request: Request) -> bool:
    return "tus-resumable" in request.headers


def method_of(request: Request) -> str:
    """Return the method that the client means: tus lets it send any other."""
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
    """Raise Problem 412 for a version other than ours."""
    if request.headers.getlist("tus-resumable") != [VERSION]:
        raise Problem(412, f"This is tus {VERSION}.", headers={"Tus-Version": VERSION})


async def create(request: Request) -> Response:
    """Begin an upload, with its first bytes when they come along; or put parts together."""
    partial = await _partial_of(request)
    body = RequestBody(request, limit=room(request, partial.length))
    has_body = not exchange_of(request.scope).body_complete
    if has_body:
        if partial.parts:
            raise Problem(400, "A final upload has no bytes of its own.")
        check_media_type(request, MEDIA_TYPE)
    check = _check_of(request)
    sessions = sessions_of(request)
    await sessions.add(partial)
    async with sessions.hold(partial.id) as session:
        try:
            if has_body:
                await session.receive(body, partial.length, check)
            await session.settle()
        except BaseException:
            await session.discard()  # Its client will never know where it is.
            raise
        headers = _state(request, session)
        if not has_body:
            headers.pop("Upload-Offset", None)
    headers["Location"] = f"{uploads_url(request)}/{partial.id}"
    return Response(status_code=201, headers=headers)


async def offset(request: Request, upload_id: str) -> Response:
    """Tell how many bytes are there."""
    async with sessions_of(request).hold(upload_id, request) as session:
        await session.settle()
        headers = _state(request, session)
        fields, length = session.partial.fields, session.length
        if length is None and session.partial.parts:
            length = await _sum(request, session.partial.parts)
    if length is not None:
        headers["Upload-Length"] = str(length)
    elif not session.partial.parts:
        headers["Upload-Defer-Length"] = "1"
    headers |= fields | {"Cache-Control": "no-store"}
    if session.record:
        headers["Content-Location"] = urlsplit(file_url(request, upload_id)).path
    return Response(headers=headers)


async def append(request: Request, upload_id: str) -> Response:
    """Take bytes from where the upload ends."""
    check_media_type(request, MEDIA_TYPE)
    start = _integer(request, "Upload-Offset")
    if start is None:
        raise Problem(400, "Upload-Offset is missing.")
    declared = _integer(request, "Upload-Length")
    check = _check_of(request)
    sessions = sessions_of(request)
    async with sessions.hold(upload_id, request) as session:
        try:
            if session.partial.parts:
                raise Problem(403, "A final upload takes no bytes.")
            if start != session.offset:
                raise Problem(409, f"The upload ends at byte {session.offset}.")
            length = _agreed(session, declared)
            body = RequestBody(request, limit=room(request, length) - start)
            await session.receive(body, length, check)
        except Problem as problem:
            problem.headers = _state(request, session) | dict(problem.headers or {})
            raise
        headers = _state(request, session)
    if session.partial.is_part and session.offset == session.length:
        await sessions.settle_wholes(upload_id)
    return Response(status_code=204, headers=headers)


async def cancel(request: Request, upload_id: str) -> Response:
    """Remove an upload, and the file that has become of it."""
    async with sessions_of(request).hold(upload_id, request) as session:
        if session.record:
            await request.app.state.storage.delete(upload_id)
        await session.discard()
    return Response(status_code=204)


def _state(request: Request, session: Session) -> dict[str, str]:
    expires_at = sessions_of(request).expires_at(session.changed_at)
    headers = {"Upload-Expires": formatdate(expires_at, usegmt=True)}
    if session.record or not session.partial.parts:  # Else there is no offset to be told of yet.
        headers["Upload-Offset"] = str(session.offset)
    return headers


async def _partial_of(request: Request) -> Partial:
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
        raise Problem(400, "Either Upload-Length or Upload-Defer-Length says how long it will be.")
    said = {name: request.headers.getlist(name) for name in ("Upload-Metadata", "Upload-Concat")}
    fields = {name: ",".join(values) for name, values in said.items() if values}
    is_part = fields.get("Upload-Concat") == "partial"
    return Partial(
        draft=_draft(request),
        length=length,
        fields=fields,
        completes=not is_part,
        is_part=is_part,
        parts=parts,
    )


async def _parts_of(request: Request) -> tuple[str, ...]:
    """Return the uploads that a final upload consists of; raises Problem 400 or 404."""
    fields = request.headers.getlist("upload-concat")
    if fields in ([], ["partial"]):
        return ()
    kind, _, urls = ",".join(fields).partition(";")
    addresses = urls.split()
    limit = request.app.state.settings.upload.max_parts
    if len(addresses) > limit:
        BOUNDS["upload.max_parts"] += 1
        raise Problem(413, f"A file has at most {limit} parts.", type=TOO_LARGE)
    found = [await _part_at(request, url) for url in addresses]
    if kind != "final" or not found:
        raise Problem(400, "Upload-Concat is 'partial', or 'final;' and the addresses of parts.")
    if len(set(found)) < len(found):
        raise Problem(400, "A part is in a file only once.")
    return tuple(found)


async def _part_at(request: Request, url: str) -> str:
    base = uploads_url(request) + "/"
    with suppress(ValueError):  # A malformed one is not ours.
        url = urljoin(base, url)
    part_id = url.removeprefix(base)
    if not url.startswith(base) or not is_id(part_id):
        raise Problem(400, "A part is an upload of this service.")
    part, _ = await sessions_of(request).partials.load(part_id)
    if part is None or part.expired_at or part.draft.owner != owner_of(request):
        raise Problem(404, "There is no upload at the address of a part.")
    if not part.is_part:
        raise Problem(400, "Only a partial upload can be a part.")
    return part_id


async def _sum(request: Request, parts: tuple[str, ...]) -> int | None:
    """Return the length of all parts together; None until each of them has one."""
    found = [await sessions_of(request).partials.load(part) for part in parts]
    lengths = [part.length if part else None for part, _ in found]
    return None if None in lengths else sum(filter(None, lengths))


def _draft(request: Request) -> Draft:
    metadata = _metadata(request.headers.getlist("upload-metadata"))
    filename = clean_filename(metadata.pop("filename", None) or metadata.pop("name", None))
    offered = metadata.pop("filetype", None) or metadata.pop("type", None)
    content_type = content_type_of(offered or "", filename)
    owner = owner_of(request)
    return Draft(filename=filename, content_type=content_type, metadata=metadata, owner=owner)


def _metadata(fields: list[str]) -> dict[str, str]:
    """Parse `Upload-Metadata`: pairs of a key and base64 text, with commas."""
    found: dict[str, str] = {}
    for pair in ",".join(fields).split(",") if any(fields) else []:
        match = _PAIR.fullmatch(pair.strip(" "))
        if not match or match[1] in found or sum(map(len, fields)) > MAX_METADATA:
            raise Problem(400, "Upload-Metadata is 'key base64,key base64', each key once.")
        found[match[1]] = decoded(match[2] or "").decode(errors="replace")
    return found


def _agreed(session: Session, declared: int | None) -> int | None:
    """Return the length that a request declares, if nobody has said another one."""
    if declared is None or declared == session.length:
        return session.length
    if session.length is not None or declared < session.offset:
        raise Problem(400, "The length of an upload is said once, and not below what is there.")
    return declared


def _integer(request: Request, name: str) -> int | None:
    values = request.headers.getlist(name)
    if not values:
        return None
    if len(values) > 1 or not _INTEGER.fullmatch(values[0]):
        raise Problem(400, f"{name} is a number of bytes.")
    # So long that it cannot be counted is too long, which is the limit's to say.
    return int(values[0]) if len(values[0]) < 19 else 1 << 62


def _check_of(request: Request) -> Checksum | None:
    fields = request.headers.getlist("upload-checksum")
    return Checksum(", ".join(fields)) if fields else None
