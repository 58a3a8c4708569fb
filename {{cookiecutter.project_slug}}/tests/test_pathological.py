"""No value of a header field or of an address costs much, whichever code takes it apart.

Each is as long as a request may be. Counted is the time of the event loop's own thread.
"""

import itertools
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from {{cookiecutter.package_name}} import streaming
from {{cookiecutter.package_name}}.settings import Settings

from .service import Service

#: Bytes of a value; the request fits into APP_SERVER__MAX_HEADER_SIZE.
SIZE = 60_000
#: Seconds of the event loop's thread for one request.
MOST = 0.02

#: Fields with parameters, or lists with weights or digests: each is refused beyond 2 KiB.
WITH_PARAMETERS = [
    "Accept", "Accept-Encoding", "Accept-Language", "Content-Digest", "Content-Disposition",
    "Content-Encoding", "Content-Type", "Expect", "Forwarded", "If-Range", "Prefer", "Repr-Digest",
    "Upload-Checksum", "Upload-Complete", "Upload-Length", "Upload-Offset", "Want-Repr-Digest",
    "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
]  # fmt: skip
FIELDS = [
    *WITH_PARAMETERS, "Access-Control-Request-Headers", "Access-Control-Request-Method",
    "Authorization", "Baggage", "Connection", "Content-Range", "Cookie", "Host", "Idempotency-Key",
    "If-Match", "If-Modified-Since", "If-None-Match", "If-Unmodified-Since", "Last-Event-ID",
    "Origin", "Range", "Sec-WebSocket-Extensions", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version", "Traceparent", "Tracestate", "Tus-Resumable", "Upgrade",
    "Upload-Concat", "Upload-Defer-Length", "Upload-Draft-Interop-Version", "Upload-Metadata",
    "X-Content-Range", "X-HTTP-Method-Override", "X-Request-ID",
]  # fmt: skip
QUERIES = [
    "after", "count", "event", "fail_after", "filename", "id", "inline", "key", "last_event_id",
    "limit", "poll", "results",
]  # fmt: skip
#: How a value begins, and of what the rest of it is.
BEGINNINGS = {
    "Content-Type": 'text/csv; charset="', "Content-Disposition": 'attachment; filename="',
    "Forwarded": 'for="', "Range": "bytes=0-0", "Upload-Concat": "final;",
    "Upload-Metadata": "key ", "Upload-Checksum": "sha1 ", "Content-Digest": "sha-256=:",
    "Repr-Digest": "sha-512=:", "If-None-Match": 'W/"', "Accept": "text/csv;q=",
}  # fmt: skip
UNITS = [
    ";", ",", '"', "\\", '\\"', "=", "%", "%41", "%E0", " ,", "\t;", "a;a=", 'a="b";', ";a*0=x",
    "a*=utf-8''%", "1", "9", "0-0,", "-1,", "?1;a=", "a=:AA==:,", '"a",', "QUJD", "k QUJD,", "\xe9",
    "for=a,", "q=0.1;", "*/*,", "/", "..", "{", "[", "(", "W/", "a b", "x-gzip,", "'", "~", "&id=",
]  # fmt: skip


def value(beginning: str, unit: str) -> str:
    return (beginning + unit * (SIZE // len(unit)))[: SIZE - 1] + "!"


def fields() -> Iterator[str]:
    """Yield each field with each value."""
    for name, unit in itertools.product(FIELDS, UNITS):
        yield f"{name}: {value(BEGINNINGS.get(name, ''), unit)}\r\n"


async def routes_of(service: Service) -> list[tuple[str, str]]:
    """Return the methods and addresses of all routes, with names of something that is there."""
    names = {"file_id": "0" * 32, "upload_id": "0" * 32, "run_id": "0" * 32}
    async with service.client() as client:
        if "upload" in Settings.model_fields:
            names["file_id"] = (await client.post("/files", content=b"x" * 99)).json()["id"]
    found = [("GET", "/"), ("GET", "/topics/news/ws"), ("OPTIONS", "/files")]
    for path, operations in service.app.openapi()["paths"].items():
        for name, known in names.items():
            path = path.replace("{" + name + "}", known)
        path = path.replace("{topics}", "news").replace("{topic}", "news")
        methods = [method.upper() for method in operations]
        found += [(method, path) for method in methods if method != "DELETE"]
        found += [("HEAD", path)] if "GET" in methods else []
    return found


async def answer(service: Service, method: str, target: str, *lines: str) -> tuple[int, float]:
    """Return the status of a request, and the seconds that the event loop worked for it."""
    began: float = await service.call(time.thread_time)
    async with service.raw_connection() as peer:
        host = "" if any(line.startswith("Host:") for line in lines) else "Host: test\r\n"
        body = b"Content-Length: 2\r\n\r\n{}" if method in ("POST", "PATCH", "PUT") else b"\r\n"
        head = f"{method} {target} HTTP/1.1\r\n{host}{''.join(lines)}"
        await peer.send(head.encode("latin-1") + body)
        status = int((await peer.read_head())[9:12])
    return status, await service.call(time.thread_time) - began


async def flaw_of(service: Service, method: str, target: str, *lines: str) -> str:
    """Return what is wrong with the response, if anything; a machine under load gets new tries."""
    for _ in range(4):
        status, seconds = await answer(service, method, target, *lines)
        if status >= 500:
            return f"{method} {target[:40]} {[line[:60] for line in lines]}: {status}"
        if seconds <= MOST:
            return ""
    return f"{method} {target[:40]} {[line[:60] for line in lines]}: {seconds:.3f} s"


@pytest.mark.bound("2.1")
async def test_no_value_of_any_field_costs_much_or_fails(service: Service) -> None:
    routes = itertools.cycle(await routes_of(service))
    sent = [await flaw_of(service, *next(routes), line) for line in fields()]

    assert len(sent) >= 1900
    assert [flaw for flaw in sent if flaw] == []


@pytest.mark.bound("2.1")
async def test_no_field_costs_much_on_any_route(service: Service) -> None:
    units, flaws = itertools.cycle(UNITS), []
    for (method, path), name in itertools.product(await routes_of(service), FIELDS):
        text = value(BEGINNINGS.get(name, ""), next(units))
        flaws.append(await flaw_of(service, method, path, f"{name}: {text}\r\n"))

    assert [flaw for flaw in flaws if flaw] == []


async def test_no_address_costs_much_or_fails(service: Service) -> None:
    units, flaws = itertools.cycle(UNITS), []
    for method, path in await routes_of(service):
        for name in QUERIES:
            text = quote(next(units), safe=";,=%&")
            target = f"{path}?{name}={text * (SIZE // len(text))}"
            flaws.append(await flaw_of(service, method, target))
        longer = f"{path}/{'%2F%41' * (SIZE // 6)}"
        flaws.append(await flaw_of(service, method, longer))

    assert [flaw for flaw in flaws if flaw] == []


@pytest.mark.bound("2.2")
@pytest.mark.parametrize("name", WITH_PARAMETERS)
async def test_a_field_is_refused_beyond_what_is_read_of_it(service: Service, name: str) -> None:
    status, _ = await answer(service, "GET", "/health/live", f"{name}: {'a' * 2049}\r\n")

    assert status == 431
    assert streaming.BOUNDS["streaming.max_field"] > 0


@pytest.mark.bound("2.2")
@pytest.mark.parametrize("name", ["If-Match", "If-None-Match", "Range"])
async def test_a_list_of_validators_may_be_longer(service: Service, name: str) -> None:
    def line(size: int) -> str:
        return f"{name}: {'a' * size}\r\n"

    assert (await answer(service, "GET", "/health/live", line(8 << 10)))[0] == 200
    assert (await answer(service, "GET", "/health/live", line(4 << 10) * 3))[0] == 431


def test_the_longest_file_name_fits_into_its_field() -> None:
    name = quote("\U0001f600" * 63 + ".md")
    field = f"attachment; filename=\"{name}\"; filename*=UTF-8''{name}"
    assert streaming.parameters(field)[1]["filename"] == "\U0001f600" * 63 + ".md"


@pytest.mark.bound("2.3")
@pytest.mark.parametrize("text", [";" * 3000, 'x="' + ";" * 3000, "a=b;" * 800, "a" * 2049])
def test_no_parameters_are_looked_for_in_what_is_too_long(text: str) -> None:
    with pytest.raises(ValueError, match="2048 bytes"):
        streaming.parameters(text)


async def test_the_framework_reads_no_body_and_so_no_content_type(service: Service) -> None:
    """FastAPI parses the Content-Type of routes with a body parameter with `email.message`."""

    def body_fields(routes: Any) -> Iterator[str]:
        for route in routes:
            if getattr(route, "body_field", None) is not None:
                yield route.path
            yield from body_fields(getattr(route, "routes", ()))

    assert list(body_fields(service.app.routes)) == []
