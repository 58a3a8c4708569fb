"""No value of a header field or of a URL costs much to parse.

Each is as long as a request may be. The tests measure the CPU time of the event loop's thread.
"""

import itertools
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import anyio.to_thread
import pytest

from {{cookiecutter.package_name}}.engine.kernel.kernel import BOUNDS
from {{cookiecutter.package_name}}.settings import Settings

from .peer import PATIENCE
from .service import SOAK, Service

#: Bytes of a value; the request fits into APP_SERVER__MAX_HEADER_SIZE.
SIZE = 60_000
#: Bytes of a query parameter, which is always read.
QUERY_SIZE = 10_000
#: Seconds of the event loop's thread for one request.
MOST = 0.05
#: Requests that are measured together.
BATCH = 16

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
    "after", "bom", "count", "event", "fail_after", "filename", "format", "id", "inline", "key",
    "last_event_id", "limit", "poll",
]  # fmt: skip
#: The beginnings of values, and the units that are repeated after them.
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


def lines_of(name: str) -> list[str]:
    """Return a field with each value, with and without its beginning."""
    beginnings = dict.fromkeys([BEGINNINGS.get(name, ""), ""])
    return [f"{name}: {value(each, unit)}\r\n" for each in beginnings for unit in UNITS]


async def routes_of(service: Service) -> list[tuple[str, str]]:
    """Return the methods and paths of all routes, with the names of existing resources."""
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


def answer(port: int, request: bytes) -> int:
    """Return the status of a request, on its own connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as peer:
        peer.sendall(request)
        head = b""
        while b"\r\n\r\n" not in head:
            head += (received := peer.recv(4096))
            assert received, f"no response to {request[:99]!r}"
    return int(head[9:12])


def request(method: str, target: str, *lines: str) -> bytes:
    host = "" if any(line.startswith("Host:") for line in lines) else "Host: test\r\n"
    body = b"Content-Length: 2\r\n\r\n{}" if method in ("POST", "PATCH", "PUT") else b"\r\n"
    return f"{method} {target} HTTP/1.1\r\n{host}{''.join(lines)}".encode("latin-1") + body


async def spent(service: Service, requests: Sequence[bytes]) -> tuple[list[int], float]:
    """Return the statuses of requests, and the seconds of CPU time of the event loop."""
    began: float = await service.call(time.thread_time)
    statuses = await anyio.to_thread.run_sync(
        lambda: [answer(service.port, each) for each in requests]
    )
    return statuses, await service.call(time.thread_time) - began


async def flaws_of(service: Service, requests: Iterable[bytes]) -> tuple[int, list[str]]:
    """Return the number of requests, and those that fail or cost much.

    A whole batch may cost as much as one request; requests of a slower batch are measured alone.
    """
    sent, flaws = 0, []
    for batch in batched(requests):
        statuses, seconds = await spent(service, batch)
        sent += len(batch)
        pairs = zip(batch, statuses, strict=True)
        flaws += [f"{each[:99]!r}: {status}" for each, status in pairs if status >= 500]
        for each in batch if seconds > MOST else ():
            # Retry: the machine may be under load.
            tries = [(await spent(service, [each]))[1] for _ in range(2)]
            if min(tries) > MOST:
                flaws.append(f"{each[:99]!r}: {min(tries):.3f} s")
    return sent, flaws


def batched(requests: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(requests)
    while batch := list(itertools.islice(rest, BATCH)):
        yield batch


async def test_no_value_of_any_field_costs_much_or_fails_on_any_route(service: Service) -> None:
    routes = await routes_of(service)

    def requests() -> Iterator[bytes]:
        for name in FIELDS * SOAK:
            lines = lines_of(name)
            pairs = zip(itertools.cycle(routes), itertools.cycle(lines), strict=False)
            for route, line in itertools.islice(pairs, max(len(lines), len(routes))):
                yield request(*route, line)

    sent, flaws = await flaws_of(service, requests())

    assert sent >= 2000
    assert flaws == []


@pytest.mark.bound("2.1")
@pytest.mark.parametrize("unit", [",", ";", 'a="b";'])
async def test_a_field_costs_about_what_one_costs_that_is_not_read(
    service: Service, unit: str
) -> None:
    async def least(name: str) -> float:
        line = f"{name}: {value('', unit)}\r\n"
        requests = [request("GET", "/health/live", line)] * BATCH
        return min([(await spent(service, requests))[1] for _ in range(3)])

    assert await least("Forwarded") < 5 * await least("X-Unknown")


async def test_no_address_costs_much_or_fails(service: Service) -> None:
    units = itertools.cycle(UNITS)
    routes = await routes_of(service)

    def requests() -> Iterator[bytes]:
        for method, path in routes * SOAK:
            for name in QUERIES:
                text = quote(next(units), safe=";,=%&")
                yield request(method, f"{path}?{name}={text * (QUERY_SIZE // len(text))}")
            yield request(method, f"{path}/{'%2F%41' * (SIZE // 6)}")

    sent, flaws = await flaws_of(service, requests())

    assert sent >= len(routes) * len(QUERIES)
    assert flaws == []


async def status_of(service: Service, lines: str) -> int:
    statuses, _ = await spent(service, [request("GET", "/health/live", lines)])
    return statuses[0]


@pytest.mark.bound("2.2")
@pytest.mark.parametrize("name", WITH_PARAMETERS)
async def test_a_field_is_refused_beyond_what_is_read_of_it(service: Service, name: str) -> None:
    assert await status_of(service, f"{name}: {'a' * 2049}\r\n") == 431
    assert BOUNDS["streaming.max_field"] > 0


@pytest.mark.bound("2.2")
@pytest.mark.parametrize("name", ["If-Match", "If-None-Match", "Range"])
async def test_a_list_of_validators_may_be_longer(service: Service, name: str) -> None:
    def line(size: int) -> str:
        return f"{name}: {'a' * size}\r\n"

    assert await status_of(service, line(8 << 10)) == 200
    assert await status_of(service, line(4 << 10) * 3) == 431


async def test_the_framework_reads_no_body_and_so_no_content_type(service: Service) -> None:
    """FastAPI parses the Content-Type of routes with a body parameter with `email.message`."""

    def body_fields(routes: Any) -> Iterator[str]:
        for route in routes:
            if getattr(route, "body_field", None) is not None:
                yield route.path
            yield from body_fields(getattr(route, "routes", ()))

    assert list(body_fields(service.app.routes)) == []
