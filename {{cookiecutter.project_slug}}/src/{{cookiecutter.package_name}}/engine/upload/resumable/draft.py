"""Resumable Uploads for HTTP: the IETF's protocol, of which URLSession and tus-js-client speak
drafts (interop version 6, and later ones).

Any creation with `Upload-Complete` begins an upload resource; `PATCH` appends to it; the request
that says `?1` is answered as the whole upload in one request would have been.

Source: draft-ietf-httpbis-resumable-upload; RFC 9651 (structured fields); RFC 9530 (digests).
"""

import re
import time
from collections.abc import Awaitable
from contextlib import aclosing
from urllib.parse import urlsplit

from fastapi import Request, Response

from ...kernel.body import RequestBody
from ...kernel.exchange import exchange_of
from ...kernel.fields import joined
from ...kernel.problem import Problem, ProblemType
from ...kernel.threads import in_thread
from ...storage.partial import Partial
from ...storage.router import file_url
from ...streams.digests import Digester, wanted_digest
from ..descriptions import content_type_of, draft_of, is_form, stored_answer
from .fields import check_media_type, room, uploads_url
from .session import Interrupted, Session
from .sessions import sessions_of

MEDIA_TYPE = "application/partial-upload"
_REGISTRY = "https://iana.org/assignments/http-problem-types#"
MISMATCHING_OFFSET = ProblemType(
    _REGISTRY + "mismatching-upload-offset",
    "Mismatching Upload Offset",
    "The upload does not end where these bytes begin. Go on from `expected-offset`.",
)
INCONSISTENT_LENGTH = ProblemType(
    _REGISTRY + "inconsistent-upload-length",
    "Inconsistent Upload Length",
    "What the request says of the length of the upload is not what was said before, or not what its"
    " own fields come to. It is a mistake of the client: begin again.",
)
#: The versions whose 104 responses we speak: drafts -04 to -15, which mean the same here.
INTEROP = range(6, 11)
#: The last version in which a question must not have the fields of an append.
STRICT = 6

#: Structured fields (RFC 9651, section 3.3), with parameters that mean nothing to us.
_PARAMETERS = r"(?:; *[a-z*][a-z0-9_.*-]*(?:=(?:\"(?:[^\"\\]|\\.)*\"|[^;\", ]+))?)*"
_BOOLEAN = re.compile(r"\?([01])" + _PARAMETERS)
_INTEGER = re.compile(r"(\d{1,15})" + _PARAMETERS, re.ASCII)


def is_creation(request: Request) -> bool:
    """Whether a request begins an upload of this protocol; a malformed field is ignored.

    So is `?1` with a form: its files are several, and an upload resource is for one.
    """
    complete = _complete(request)
    return complete is False or (complete is True and not is_form(request))


def limits(request: Request, expires_at: float | None = None) -> str:
    """Return the value of `Upload-Limit`: bytes of a file, seconds for which an upload is kept."""
    upload = request.app.state.settings.upload
    age = upload.expire_after if expires_at is None else expires_at - time.time()
    return f"max-size={upload.max_size}, max-age={max(int(age), 0)}"


async def create(request: Request) -> Response:
    """Begin an upload; when the request says that it is all, answer for the whole."""
    complete = _complete(request)
    if complete is None:
        raise Problem(400, "Upload-Complete says whether this is all (?1) or more will come (?0).")
    length = _agreed(request, 0, None, complete)
    body = RequestBody(request, limit=room(request, length))
    partial = _partial_of(request, length)
    check = Digester(request.headers.getlist("content-digest")) or None
    sessions = sessions_of(request)
    await sessions.add(partial)
    headers = {"Location": f"{uploads_url(request)}/{partial.id}", "Upload-Limit": limits(request)}
    informed = await _inform(request, headers)
    async with sessions.hold(partial.id) as session:
        try:
            answer = await _receive(request, session, body, length, check, complete)
        except BaseException as error:
            refused = isinstance(error, Problem) and error.status_code in (400, 413, 415)
            if refused or not informed:  # Else its client knows where to go on.
                await session.discard()
            if isinstance(error, Interrupted) and not informed:
                raise error.reason from None
            raise
    if complete:
        return answer
    return Response(status_code=201, headers={**answer.headers, **headers})


async def offset(request: Request, upload_id: str) -> Response:
    """Tell how many bytes are there, and where the file is when that is all."""
    _refuse_fields(request, "upload-offset", "upload-complete", "upload-length")
    sessions = sessions_of(request)
    async with sessions.hold(upload_id, request) as session:
        headers = {
            "Upload-Offset": str(session.offset),
            "Upload-Complete": "?1" if session.record else "?0",
            "Upload-Limit": limits(request, sessions.expires_at(session.changed_at)),
            "Cache-Control": "no-store",
        }
    if session.length is not None:
        headers["Upload-Length"] = str(session.length)
    if session.record:
        headers["Content-Location"] = urlsplit(file_url(request, upload_id)).path
    return Response(status_code=204, headers=headers)


async def append(request: Request, upload_id: str) -> Response:
    """Take bytes from where the upload ends."""
    check_media_type(request, MEDIA_TYPE)
    start, complete = _integer(request, "upload-offset"), _complete(request)
    if start is None or complete is None:
        raise Problem(400, "Upload-Offset and Upload-Complete are needed.")
    check = Digester(request.headers.getlist("content-digest")) or None
    async with sessions_of(request).hold(upload_id, request) as session:
        if session.partial.is_part or session.partial.parts:
            raise Problem(403, "A concatenation of tus is continued by tus.")
        if start != session.offset:
            raise _mismatch(session.offset, start)
        length = _agreed(request, start, session.length, complete)
        body = RequestBody(request, limit=room(request, length) - start)
        if length is not None and (body.declared or 0) > body.limit:
            await session.discard()
            raise _inconsistent()
        return await _receive(request, session, body, length, check, complete)


async def cancel(request: Request, upload_id: str) -> Response:
    """Forget an upload; a file that has become of it stays."""
    _refuse_fields(request, "upload-offset", "upload-complete")
    async with sessions_of(request).hold(upload_id, request) as session:
        await session.discard()
    return Response(status_code=204)


def _partial_of(request: Request, length: int | None) -> Partial:
    names = ("Repr-Digest", "Want-Repr-Digest")
    fields = {name: joined(request.headers, name) for name in names}
    Digester(filter(None, [fields["Repr-Digest"]]))  # Malformed it is refused at once.
    draft = draft_of(request)
    if draft.content_type == MEDIA_TYPE:  # What some clients say of a first part, too.
        draft = draft.model_copy(update={"content_type": content_type_of("", draft.filename)})
    return Partial(draft=draft, length=length, fields=fields)


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
        # More came than the length that was declared: no byte of it can be trusted.
        await session.discard()
        raise _inconsistent() from None
    if not complete:
        headers = {"Upload-Offset": str(session.offset), "Upload-Complete": "?0"}
        return Response(status_code=204, headers=headers)
    try:
        return await _finish(request, session)
    except Problem as problem:
        if problem.status_code < 500 and session.length == session.offset:
            # It is complete, and this is what its target says of it.
            problem.headers = {**(problem.headers or {}), "Upload-Complete": "?1"}
        raise


async def _finish(request: Request, session: Session) -> Response:
    if session.length not in (None, session.offset):
        raise _inconsistent()
    kept = session.partial.fields
    wanted = wanted_digest(
        joined(request.headers, "want-repr-digest") or kept.get("Want-Repr-Digest", "")
    )
    fields = [kept.get("Repr-Digest", ""), *request.headers.getlist("repr-digest")]
    digester = Digester(filter(None, fields), filter(None, [wanted]))
    if digester and not session.record:
        # Hashed once it is whole: the state of a hash does not survive a restart, the bytes do.
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
    answer = stored_answer(request, record)
    answer.headers.update({"Upload-Complete": "?1", "Upload-Offset": str(record.size)})
    return answer


async def _inform(request: Request, headers: dict[str, str]) -> bool:
    """Send a 104 if the client asks for it, the server can and the settings say so; tell if."""
    version = _integer(request, "upload-draft-interop-version")
    can = "http.response.informational" in request.scope.get("extensions", {})
    if not (can and version in INTEROP and request.app.state.settings.upload.interim_responses):
        return False
    told = headers | {"Upload-Draft-Interop-Version": str(version)}
    lines = [(name.lower().encode(), value.encode()) for name, value in told.items()]
    message = {"type": "http.response.informational", "status": 104, "headers": lines}
    await exchange_of(request.scope).send(message)
    return True


def _agreed(request: Request, start: int, known: int | None, complete: bool) -> int | None:
    """Return the length of an upload; raises Problem 400 when two sources of it disagree."""
    said = [known, _integer(request, "upload-length")]
    if complete and "content-length" in request.headers:
        said.append(start + int(request.headers["content-length"]))
    lengths = {length for length in said if length is not None}
    if len(lengths) > 1 or any(length < start for length in lengths):
        raise _inconsistent()
    return next(iter(lengths), None)


def _complete(request: Request) -> bool | None:
    fields = request.headers.getlist("upload-complete")
    match = _BOOLEAN.fullmatch(fields[0].strip()) if len(fields) == 1 else None
    return match[1] == "1" if match else None


def _integer(request: Request, name: str) -> int | None:
    fields = request.headers.getlist(name)
    match = _INTEGER.fullmatch(fields[0].strip()) if len(fields) == 1 else None
    return int(match[1]) if match else None


def _refuse_fields(request: Request, *names: str) -> None:
    """Raise Problem 400 for fields that have no meaning here, in the versions that say so."""
    version = _integer(request, "upload-draft-interop-version")
    strict = version is not None and version <= STRICT
    if strict and any(name in request.headers for name in names):
        raise Problem(400, f"A request of this method has no {' or '.join(names)}.")


def _mismatch(expected: int, provided: int) -> Problem:
    members = {"expected-offset": expected, "provided-offset": provided}
    headers = {"Upload-Offset": str(expected), "Upload-Complete": "?0"}
    detail = f"The upload ends at byte {expected}."
    return Problem(409, detail, headers=headers, type=MISMATCHING_OFFSET, **members)


def _inconsistent() -> Problem:
    detail = "The length of the upload is not what was said before."
    return Problem(400, detail, type=INCONSISTENT_LENGTH)
