"""Resumable Uploads for HTTP: the protocol of the IETF draft.

URLSession and tus-js-client implement drafts of it, from interop version 6 on. A creation with
`Upload-Complete` creates an upload resource, `PATCH` appends to it, and the request with `?1` gets
the same response as an upload in one request.

Source: draft-ietf-httpbis-resumable-upload; RFC 9651 (structured fields); RFC 9530 (digests).
"""

from collections.abc import Awaitable
from contextlib import aclosing

from fastapi import Request, Response

from ...kernel.admission import client_of
from ...kernel.body import RequestBody
from ...kernel.exchange import exchange_of
from ...kernel.fields import joined
from ...kernel.problem import Problem, ProblemType
from ...kernel.threads import in_thread
from ...storage.partials import Partial
from ...streams.clock import expiry_time
from ...streams.digests import Digester, wanted_digest
from ...streams.structured import parse_item
from ..metadata import content_type_of, draft_of, is_form, stored_response
from .sessions import (
    Interrupted,
    Session,
    body_of,
    check_media_type,
    resource_headers,
    sessions_of,
    uploads_url,
)

MEDIA_TYPE = "application/partial-upload"
_REGISTRY = "https://iana.org/assignments/http-problem-types#"
MISMATCHING_OFFSET = ProblemType(
    _REGISTRY + "mismatching-upload-offset",
    "Mismatching Upload Offset",
    "`Upload-Offset` is not the end of the upload. Continue from `expected-offset`.",
)
INCONSISTENT_LENGTH = ProblemType(
    _REGISTRY + "inconsistent-upload-length",
    "Inconsistent Upload Length",
    "The length of the upload differs from the one in an earlier request, or the headers of this"
    " request contradict each other. This is a bug in the client: start a new upload.",
)
#: The interop versions with the same 104 responses: drafts -04 to -15.
INTEROP = range(6, 11)
#: The last version in which HEAD and DELETE must not have the headers of an append.
STRICT = 6


def is_creation(request: Request) -> bool:
    """Whether a request to `/files` creates an upload of this protocol.

    One with a malformed `Upload-Complete` does not. A form with `?1` does not either, because an
    upload resource is for one file.
    """
    complete = _complete(request)
    return complete is False or (complete is True and not is_form(request))


def limits(request: Request, expires_at: float | None = None) -> str:
    """Return the value of `Upload-Limit`: bytes of a file, and seconds until an upload expires."""
    upload = request.app.state.settings.upload
    age = upload.expire_after if expires_at is None else expires_at - expiry_time()
    return f"max-size={upload.max_size}, max-age={max(int(age), 0)}"


async def create(request: Request) -> Response:
    """Create an upload; with `Upload-Complete: ?1`, respond as to an upload in one request."""
    complete = _complete(request)
    if complete is None:
        raise Problem(400, "Upload-Complete must be ?1 for a complete body, or ?0 if more follows.")
    length = _agreed_length(request, 0, None, complete)
    body = body_of(request, length)
    partial = _partial_of(request, length)
    check = Digester([joined(request.headers, "content-digest")]) or None
    sessions = sessions_of(request)
    await sessions.add(partial)
    headers = {"Location": f"{uploads_url(request)}/{partial.id}", "Upload-Limit": limits(request)}
    informed = await _inform(request, headers)
    async with sessions.hold(partial.id) as session:
        try:
            response = await _receive(request, session, body, length, check, complete)
        except BaseException as error:
            refused = isinstance(error, Problem) and error.status_code in (400, 413, 415)
            if refused or not informed:  # Otherwise the client knows the URL and can continue.
                await session.discard()
            if isinstance(error, Interrupted) and not informed:
                raise error.reason from None
            raise
    if complete:
        return response
    return Response(status_code=201, headers={**response.headers, **headers})


async def offset(request: Request, upload_id: str) -> Response:
    """Return the offset of an upload, and the path of its file when it is complete."""
    _refuse_fields(request, "upload-offset", "upload-complete", "upload-length")
    sessions = sessions_of(request)
    async with sessions.hold(upload_id, request) as session:
        headers = {
            "Upload-Offset": str(session.offset),
            "Upload-Complete": "?1" if session.record else "?0",
            "Upload-Limit": limits(request, sessions.expires_at(session.changed_at)),
        }
        headers |= resource_headers(request, session)
    return Response(status_code=204, headers=headers)


async def append(request: Request, upload_id: str) -> Response:
    check_media_type(request, MEDIA_TYPE)
    start, complete = _integer(request, "upload-offset"), _complete(request)
    if start is None or complete is None:
        raise Problem(400, "Upload-Offset and Upload-Complete are required.")
    check = Digester([joined(request.headers, "content-digest")]) or None
    async with sessions_of(request).hold(upload_id, request) as session:
        if session.partial.is_part or session.partial.parts:
            raise Problem(403, "An upload of a tus concatenation must be continued with tus.")
        if start != (expected := session.offset):
            members = {"expected-offset": expected, "provided-offset": start}
            headers = {"Upload-Offset": str(expected), "Upload-Complete": "?0"}
            detail = f"The upload ends at byte {expected}."
            raise Problem(409, detail, headers=headers, type=MISMATCHING_OFFSET, **members)
        length = _agreed_length(request, start, session.length, complete)
        body = body_of(request, length, start)
        if length is not None and (body.declared or 0) > body.limit:
            await session.discard()
            raise _inconsistent()
        return await _receive(request, session, body, length, check, complete)


async def cancel(request: Request, upload_id: str) -> Response:
    """Delete an upload; the file that it has become stays."""
    _refuse_fields(request, "upload-offset", "upload-complete")
    async with sessions_of(request).hold(upload_id, request) as session:
        await session.discard()
    return Response(status_code=204)


def _partial_of(request: Request, length: int | None) -> Partial:
    names = ("Repr-Digest", "Want-Repr-Digest")
    fields = {name: joined(request.headers, name) for name in names}
    Digester([fields["Repr-Digest"]])  # Raises 400 now if it is malformed.
    draft = draft_of(request)
    if draft.content_type == MEDIA_TYPE:  # Some clients send it with the creation, too.
        draft = draft.model_copy(update={"content_type": content_type_of("", draft.filename)})
    return Partial(draft=draft, client=client_of(request), length=length, fields=fields)


async def _receive(
    request: Request,
    session: Session,
    body: RequestBody,
    length: int | None,
    check: Digester | None,
    complete: bool,
) -> Response:
    def inform(offset: int) -> Awaitable[bool]:
        return _inform(request, {"Upload-Offset": str(offset)})

    try:
        await session.receive(body, length, check, inform)
    except Problem as problem:
        if problem.status_code != 413 or length is None:
            raise
        # The body exceeds the declared length, so its bytes cannot be trusted.
        await session.discard()
        raise _inconsistent() from None
    if not complete:
        headers = {"Upload-Offset": str(session.offset), "Upload-Complete": "?0"}
        return Response(status_code=204, headers=headers)
    try:
        return await _finish(request, session)
    except Problem as problem:
        if problem.status_code < 500 and session.length == session.offset:
            # The upload is complete, and this is the response of its target.
            problem.headers = {**(problem.headers or {}), "Upload-Complete": "?1"}
        raise


async def _finish(request: Request, session: Session) -> Response:
    if session.length not in (None, session.offset):
        raise _inconsistent()
    kept, headers = session.partial.fields, request.headers
    wanted = joined(headers, "want-repr-digest") or kept.get("Want-Repr-Digest", "")
    digests = [kept.get("Repr-Digest", ""), joined(headers, "repr-digest")]
    digester = Digester(digests, filter(None, [wanted_digest(wanted)]))
    if digester and not session.record:
        # Computed at the end: a restart loses the state of a hash, but not the bytes.
        threads = request.app.state.storage.threads
        async with aclosing(session.partials.read(session.partial.id, session.offset)) as chunks:
            async for chunk in chunks:
                await in_thread(threads, digester.update, chunk)
        try:
            digester.verify()
        except Problem:
            await session.discard()
            raise
    record = await session.finish(digester.encoded() or None)
    response = stored_response(request, record)
    response.headers.update({"Upload-Complete": "?1", "Upload-Offset": str(record.size)})
    return response


async def _inform(request: Request, headers: dict[str, str]) -> bool:
    """Send a 104 if client, server and settings support it; return whether it was sent."""
    version = _integer(request, "upload-draft-interop-version")
    can = "http.response.informational" in request.scope.get("extensions", {})
    if not (can and version in INTEROP and request.app.state.settings.upload.interim_responses):
        return False
    headers = headers | {"Upload-Draft-Interop-Version": str(version)}
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    message = {"type": "http.response.informational", "status": 104, "headers": lines}
    await exchange_of(request.scope).send(message)
    return True


def _agreed_length(request: Request, start: int, known: int | None, complete: bool) -> int | None:
    """Return the length of an upload, if known; raises Problem 400 for contradictory lengths."""
    declared = [known, _integer(request, "upload-length")]
    if complete and "content-length" in request.headers:
        declared.append(start + int(request.headers["content-length"]))
    lengths = {length for length in declared if length is not None}
    if len(lengths) > 1 or any(length < start for length in lengths):
        raise _inconsistent()
    return next(iter(lengths), None)


def _complete(request: Request) -> bool | None:
    value = parse_item(joined(request.headers, "upload-complete"))
    return value if isinstance(value, bool) else None


def _integer(request: Request, name: str) -> int | None:
    value = parse_item(joined(request.headers, name))
    return value if type(value) is int and value >= 0 else None


def _refuse_fields(request: Request, *names: str) -> None:
    """Raise Problem 400 for headers that strict versions forbid in this method."""
    version = _integer(request, "upload-draft-interop-version")
    strict = version is not None and version <= STRICT
    if strict and any(name in request.headers for name in names):
        raise Problem(400, f"A request of this method must not have {' or '.join(names)}.")


def _inconsistent() -> Problem:
    detail = "The length of the upload contradicts another header or an earlier request."
    return Problem(400, detail, type=INCONSISTENT_LENGTH)
