"""The log: one line per request, when it has ended, and no secret in any line."""

import asyncio
import errno
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BufferedWriter, BytesIO, RawIOBase, TextIOWrapper
from typing import Any

import pytest
import structlog
from fastapi import APIRouter
from structlog.testing import capture_logs

from {{cookiecutter.package_name}}.engine.observability import log, redaction

from ..service import Service, ServiceProcess

Lines = list[Any]


@pytest.fixture
def lines(service: Service) -> Iterator[Lines]:
    """Return the lines that are written from now on."""
    with capture_logs([structlog.contextvars.merge_contextvars]) as captured:
        yield captured


def requests(lines: Lines) -> Lines:
    return [line for line in lines if line["event"] == "request"]


@pytest.mark.trap("E9")
async def test_a_request_is_logged_when_it_has_ended(service: Service, lines: Lines) -> None:
    async with service.raw_connection() as peer:
        await peer.get("/broken?x=1", "X-Request-ID: abc")
        await peer.read_to_end()
    exchange = await service.ended("GET /broken")

    [line] = requests(lines)
    assert 0 <= line.pop("first_byte") <= line.pop("duration")
    assert line == {
        "event": "request",
        "log_level": "error",
        "method": "GET",
        "route": "/broken",
        "query": "x=1",
        "status": 200,
        "outcome": "server_error",
        "module": "app",
        "bytes_in": 0,
        "bytes_out": exchange.bytes_out,
        "client": "127.0.0.1",
        "request_id": "abc",
    }


async def test_a_client_that_leaves_is_no_error(service: Service, lines: Lines) -> None:
    async with service.raw_connection() as peer:
        await peer.get("/endless")
        await peer.read_head()
        peer.reset()
    await service.ended("GET /endless")

    [line] = requests(lines)
    assert (line["outcome"], line["module"]) == ("client_abort", "examples")
    assert line["log_level"] == "info"
    assert line["bytes_out"] > 0


@pytest.mark.parametrize(
    ("path", "route", "level"),
    [
        ("/crash", "/crash", "error"),
        ("/nothing", "(none)", "info"),
        ("/health/ready", "/health/ready", "warning"),
    ],
)
async def test_the_level_of_a_line_follows_the_outcome(
    service: Service, lines: Lines, path: str, route: str, level: str
) -> None:
    await service.call(service.app.state.kernel.drain.begin)
    async with service.client() as client:
        await client.get(path)
    await service.ended(f"GET {route}")

    [line] = requests(lines)
    assert line["log_level"] == level


async def test_probes_that_succeed_do_not_fill_the_log(service: Service, lines: Lines) -> None:
    async with service.client() as client:
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert (await client.get(path)).status_code == 200
            await service.ended(f"GET {path}")

    assert requests(lines) == []


async def test_a_path_is_there_where_a_route_has_many(service: Service, lines: Lines) -> None:
    async with service.client() as client:
        await client.get("/no/such%0Athing")
        await client.get("/process")
    await service.ended("GET (none)")
    await service.ended("GET /process")

    unknown, known = requests(lines)
    assert (unknown["route"], unknown["path"]) == ("(none)", "/no/such%0Athing")
    assert "path" not in known


async def test_every_line_inside_a_request_has_its_id(serve: Any) -> None:
    router = APIRouter()
    own = structlog.get_logger()

    @router.get("/lines/{number}")
    async def write(number: int) -> None:
        own.info("here")
        await asyncio.to_thread(own.info, "in a thread")
        await asyncio.create_task(later())

    async def later() -> None:
        own.info("in a task")

    service: Service = await serve(router)
    with capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        async with service.client() as client:
            responses = await asyncio.gather(*(client.get(f"/lines/{n}") for n in range(5)))
        for _ in responses:
            await service.ended("GET /lines/{number}")

    for response in responses:
        request_id = response.headers["x-request-id"]
        events = [line["event"] for line in lines if line["request_id"] == request_id]
        assert events == ["here", "in a thread", "in a task", "request"]


SECRETS = ["token", "access_token", "api-key", "X-Amz-Signature", "sig", "password", "%74oken"]


@pytest.mark.trap("E8")
@pytest.mark.parametrize("name", [*SECRETS, "code", "ticket", "session_id", "Authorization"])
async def test_no_line_has_a_secret_of_the_query(service: Service, lines: Lines, name: str) -> None:
    async with service.client() as client:
        await client.get(f"/crash?count=3&{name}=hidden&{name}=hidden")
    await service.ended("GET /crash")

    [line] = requests(lines)
    assert line["query"] == f"count=3&{name}=***&{name}=***"
    assert "hidden" not in str(lines)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (b"", ""),
        (b"inline&count=3", "inline&count=3"),
        (b"name=" + b"x" * 1000, "name=" + "x" * 100 + "…"),
        (b"eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "***"),
        (b"dGhlIHNhbXBsZSBub25jZSBmb3I", "dGhlIHNhbXBsZSBub25j…"),
        (b"key=&name=", "key=***&name="),
        (b"name=\xff\x1b", "name=\\xff\x1b"),
        (b"token=a=b&x", "token=***&x"),
    ],
)
def test_a_query_is_shown_as_it_was_sent_without_its_secrets(query: bytes, shown: str) -> None:
    assert redaction.query(query) == shown


BEARER = "mF_9.B5f-4.1JqM"
JWT = "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"


@pytest.mark.fault("G42")
@pytest.mark.parametrize(
    "query",
    [
        f"q=Bearer%20{BEARER}&b=1",
        f"b=1&q=bearer+{BEARER}",
        f"q=BEARER%2520{BEARER}&b=1",
        f"%42earer%20{BEARER}&b=1",
        f"b=1&Bearer%09{BEARER}=x",
        f"Bearer={BEARER}&b=1",
        f"q=%7B%22a%22%3A%22Bearer+{BEARER}%22%7D&b=1",
        f"q=x;Authorization:Bearer%20{BEARER}&b=1",
        f"q=Basic%20{BEARER}&b=1",
        f"b=1&q={JWT}",
        f"b=1&{JWT}",
        f"b=1&q={JWT.replace('.', '%2E').replace('e', '%65')}",
    ],
)
async def test_no_line_has_a_credential_of_any_parameter(
    service: Service, lines: Lines, query: str
) -> None:
    async with service.client() as client:
        await client.get(f"/crash?{query}")
        await client.get(f"/nowhere/{query}")
    for route in ("GET /crash", "GET (none)"):
        await service.ended(route)

    written = str(lines)
    assert "b=1" in written
    # With dots, because the random id of a request may contain the letters.
    assert not any(part in written for part in (BEARER, ".e30.", "JIUzI1"))


def test_a_path_with_a_secret_is_not_shown() -> None:
    assert redaction.path("/links/{token}", b"/links/hidden", {"token": "hidden"}) == (
        "/links/{token}"
    )
    assert redaction.path("/files/{id}", b"/files/1", {"id": "1"}) == "/files/1"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('"GET /a?token=hidden&x=1 HTTP/1.1"', '"GET /a?token=***&x=1 HTTP/1.1"'),
        ("https://x.test/?x=1&sig=hidden", "https://x.test/?x=1&sig=***"),
        ("a = b, key = c", "a = b, key = c"),
        ("bad: 'Authorization: Bearer mF_9.B5f-4.1JqM'", "bad: 'Authorization: Bearer ***'"),
        ("/a/eyJhbGciOiJIUzI1NiJ9.e30.c2ln, 404", "/a/***, 404"),
        ("the bearer is here", "the bearer is here"),
    ],
)
def test_the_lines_of_others_have_no_secrets_of_queries(text: str, shown: str) -> None:
    assert redaction.text(text) == shown


@pytest.mark.trap("E12")
@pytest.mark.slow
async def test_an_error_is_logged_once_with_its_cause_and_the_id(
    process: Callable[..., ServiceProcess],
) -> None:
    async with process() as running, running.client() as client:
        async with running.raw_connection() as peer:
            await peer.get("/endless", "X-Request-ID: left")
            await peer.read_head()
            peer.reset()
        async with running.raw_connection() as peer:
            await peer.get("/broken", "X-Request-ID: broken")
            await peer.read_to_end()
        response = await client.get("/crash?token=hidden", headers={"X-Request-ID": "crashed"})
        assert "went wrong" not in response.text
        running.terminate()
        assert await running.exit_code() == 0

    lines = [json.loads(line) for line in running.log]
    told = {line["request_id"]: line for line in lines if "exception" in line}
    assert sum("exception" in line for line in lines) == 2
    assert told.keys() == {"broken", "crashed"}
    for line in told.values():
        assert line["level"] == "error"
        assert line["exception"].endswith("ValueError: what went wrong")
        assert "StreamAborted" not in line["exception"]
    outcomes = {line["request_id"]: line["outcome"] for line in requests(lines)}
    assert outcomes == {
        "left": "client_abort",
        "broken": "server_error",
        "crashed": "server_error",
    }
    assert "hidden" not in "".join(running.log)


@pytest.mark.slow
async def test_people_can_read_it_too(process: Callable[..., ServiceProcess]) -> None:
    async with process(LOG__FORMAT="pretty") as running, running.client() as client:
        await client.get("/process")
        running.terminate()
        assert await running.exit_code() == 0

    [line] = [line for line in running.log if "[info     ] request " in line]
    assert " route=/process status=200 outcome=complete " in line


@pytest.mark.slow
async def test_without_serve_the_lines_come_too_and_no_others_with_secrets(
    process: Callable[..., ServiceProcess],
) -> None:
    async with (
        process("uvicorn", "--factory", "examples:create_app", "--port=0") as running,
        running.client() as client,
    ):
        await client.get("/process?token=hidden")
        running.terminate()
        await running.exit_code()

    [line] = requests([json.loads(line) for line in running.log if line.startswith("{")])
    assert line["query"] == "token=***"
    assert "hidden" not in "".join(running.log)


@pytest.mark.parametrize(
    "value", ["ä\ud800", b"\xff", float("nan"), {1: {2, 3}}, object(), {("a",): 1}]
)
def test_values_without_a_form_in_json_are_written(value: object) -> None:
    at = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
    event = {"event": "x", "value": value, "timestamp": at.isoformat()}
    line = json.loads(log.as_json(None, "info", event))

    assert line["event"] == "x"
    assert datetime.fromisoformat(line["timestamp"]) == at
    assert line["timestamp"].startswith("2026-01-31T12:30:00")


def test_a_log_that_cannot_be_written_fails_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = TextIOWrapper(BytesIO())
    closed.close()
    full = TextIOWrapper(BufferedWriter(Full()))
    for output in (closed, full):
        monkeypatch.setattr("sys.stdout", output)
        log.Output().msg("x" * 100_000)


class Full(RawIOBase):
    """A full disk."""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "full")
