"""The code of a project's docs/runs.md runs in a generated service."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

from answers import REPOSITORY, only
from baking import TEMPLATE_FOLDER, Bake, Project
from environment import Environment
from running import running

PAGE = (REPOSITORY / TEMPLATE_FOLDER / "docs/runs.md").read_text("utf-8")
#: Maximum seconds to wait on a busy machine.
PATIENCE = 60
#: The new files of the page.
EXAMPLES = ["reports", "sequences", "stories"]
REPORT = {"year": 2026, "regions": ["a", "b"]}
#: Continues a story of four words after two of them.
RESUMES = """
import asyncio
from {}.engine.realtime import Message
from {}.stories import resumed

async def main():
    async for word in resumed([Message("word1 word2 ")], 4):
        print(word)

asyncio.run(main())
"""

Fields = dict[str, str]


def block(beginning: str) -> str:
    """Return the only Python block of the page with this beginning."""
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = [text for text in blocks if text.startswith(beginning)]
    return found


@pytest.fixture(scope="module")
def project(bake_once: Bake) -> Project:
    """Generate a service and add the examples of the page."""
    made = bake_once(**only("use_realtime", "use_error_handling"), auth="none")
    app = made.src / "app.py"
    text = app.read_text("utf-8")
    for name in EXAMPLES:
        code = block(f"# {name}.py\n").partition("\n")[2]
        (made.src / f"{name}.py").write_text(code, "utf-8")
        included = f"    app.include_router({name}.router)\n    return app"
        text = text.replace("    return app", included)
    (listed,) = re.findall(r"from \. import \((.*?)\)", text, re.DOTALL)
    names = sorted([*listed.replace(",", "").split(), *EXAMPLES])
    text = text.replace(listed, "\n" + "".join(f"    {name},\n" for name in names))
    app.write_text(text, "utf-8")
    return made


@pytest.fixture(scope="module")
def service(
    project: Project, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of that service."""
    with running(project, environment, tmp_path_factory.mktemp("service")) as port:
        yield port


@pytest.fixture
def connection(service: int) -> Iterator[HTTPConnection]:
    connected = HTTPConnection("127.0.0.1", service, timeout=PATIENCE)
    yield connected
    connected.close()


def ask(
    connection: HTTPConnection, method: str, path: str, body: object = None, **fields: str
) -> HTTPResponse:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    text = b"" if body is None else json.dumps(body).encode()
    connection.request(method, path, text, {"Content-Type": "application/json", **named})
    return connection.getresponse()


def start(connection: HTTPConnection, path: str, body: object, **fields: str) -> Fields:
    """Start a run and return the document of the response."""
    document: Fields = json.load(ask(connection, "POST", path, body, **fields))
    return document


def follow(connection: HTTPConnection, started: Fields, **fields: str) -> HTTPResponse:
    return ask(connection, "GET", urlsplit(started["events"]).path, **fields)


def events_of(response: HTTPResponse) -> list[Fields]:
    """Return the fields of every event of a finite response."""
    blocks = response.read().decode().split("\n\n")
    assert blocks.pop() == ""  # no incomplete event
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


def test_the_report_of_the_page_sends_its_progress(connection: HTTPConnection) -> None:
    started = start(connection, "/runs/report", REPORT)
    events = events_of(follow(connection, started))

    assert started["name"] == "report"
    assert [event["data"] for event in events if "data" in event] == [
        '{"done":1,"of":2}',
        '{"done":2,"of":2}',
        "The report of 2026.",
        '{"status":"complete"}',
    ]


def test_a_run_has_the_formats_of_the_page(connection: HTTPConnection) -> None:
    started = start(connection, "/runs/report", REPORT)
    lines = follow(connection, started, Accept="application/jsonl")
    *events, last, end = [json.loads(line) for line in lines.read().splitlines() if line]
    text = follow(connection, started, Accept="text/plain")

    assert [event["data"] for event in events] == [{"done": 1, "of": 2}, {"done": 2, "of": 2}]
    assert (last["event"], last["data"]) == (None, "The report of 2026.")
    assert (end["event"], end["data"]) == ("end", {"status": "complete"})
    assert text.read() == b"The report of 2026."


def test_a_run_is_started_once_with_a_key(connection: HTTPConnection) -> None:
    found = []
    for method, path, count, key in [
        ("POST", "/runs/counter", 0, {"Idempotency-Key": "5a0c1f"}),
        ("POST", "/runs/counter", 0, {"Idempotency-Key": "5a0c1f"}),
        ("PUT", "/runs/counter/5a0c1f", 0, {}),
        ("PUT", "/runs/counter/5a0c1f", 1, {}),
    ]:
        response = ask(connection, method, path, {"count": count}, **key)
        found.append((response.status, json.load(response)))
    (_, first), *others, (_, problem) = found

    assert [status for status, _ in found] == [201, 200, 200, 422]
    assert [document for _, document in others] == [first, first]
    assert problem["type"] == "/problems/idempotency-key-reused"


def test_the_active_run_of_a_conversation_is_found(connection: HTTPConnection) -> None:
    started = start(connection, "/runs/counter?key=c1", {"count": 150})
    active = json.load(ask(connection, "GET", "/runs?key=c1"))
    ask(connection, "POST", f"/runs/{started['id']}/stop").read()
    last = events_of(follow(connection, started))[-1]
    ended = ask(connection, "GET", "/runs?key=c1")

    assert active == started
    assert last["data"] == '{"status":"stopped"}'
    assert (ended.status, ended.read()) == (204, b"")


def test_a_late_follower_gets_a_story_as_one_event(connection: HTTPConnection) -> None:
    started = start(connection, "/runs/story", {"words": 3})
    follow(connection, started).read()
    *events, end = [event["data"] for event in events_of(follow(connection, started))]

    assert events == ["word1 word2 word3 "]
    assert end == '{"status":"complete"}'


def test_a_story_is_continued_after_its_last_word(
    project: Project, environment: Environment
) -> None:
    done = environment.run(project, "python", "-c", RESUMES.format(*[project.package] * 2))

    assert done.stdout.splitlines() == ["word3 ", "word4 "]


def test_the_reader_of_the_page_sends_a_sequence(connection: HTTPConnection) -> None:
    response = ask(connection, "POST", "/counts?to=1")

    assert response.headers["Content-Type"] == "application/json-seq"
    assert response.read() == b'\x1e{"number":1,"of":1}\n'


def test_a_sequence_that_is_not_complete_is_aborted(
    connection: HTTPConnection, service: int
) -> None:
    key = {"Idempotency-Key": "stopped"}
    response = ask(connection, "POST", "/counts?to=150", **key)
    with closing(HTTPConnection("127.0.0.1", service, timeout=PATIENCE)) as other:
        started = start(other, "/runs/counter", {"count": 150}, **key)
        ask(other, "POST", f"/runs/{started['id']}/stop").read()

    with pytest.raises(IncompleteRead):
        response.read()


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "src"),
        ("ruff", "format", "--check", "src"),
        ("mypy", "--no-incremental", "src"),
    ],
)
def test_the_code_of_the_page_passes_the_checks_of_the_project(
    command: tuple[str, ...], project: Project, environment: Environment
) -> None:
    assert environment.run(project, *command).returncode == 0


def test_the_client_of_the_page_follows_a_run_to_its_end(
    connection: HTTPConnection, environment: Environment, tmp_path: Path
) -> None:
    started = start(connection, "/runs/counter", {"count": 2, "interval": 0.1})

    assert output_of_the_client(environment, tmp_path, started["events"]) == [
        'message {"number":1,"of":2}',
        'message {"number":2,"of":2}',
        'end {"status":"complete"}',
    ]


def output_of_the_client(environment: Environment, folder: Path, url: str) -> list[str]:
    """Run the client of the page, and return the lines that it prints."""
    script = folder / "follow.py"
    script.write_text(block("import re\nimport sys"), "utf-8")
    words = [str(environment.python), str(script), url]
    utf_8 = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(words, stdout=subprocess.PIPE, env=utf_8, timeout=PATIENCE, check=True)
    return done.stdout.decode().replace(os.linesep, "\n").removesuffix("\n").split("\n")


class OneByteAtATime(BaseHTTPRequestHandler):
    """Sends an event stream with all kinds of line ends, and a chunk for each of its bytes."""

    protocol_version = "HTTP/1.1"
    events = "data: a\u2028b\x85c\x0cd\r\nid: 1\r\n\r\ndata: e\r\rdata: f\ndata: g\n\nevent: end\n"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for byte in f"{self.events}data: h\n\n".encode():
            self.wfile.write(b"1\r\n%c\r\n" % byte)
        self.wfile.write(b"0\r\n\r\n")


def test_the_client_of_the_page_ends_lines_where_the_standard_does(
    environment: Environment, tmp_path: Path
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), OneByteAtATime) as server:
        Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        printed = output_of_the_client(environment, tmp_path, url)
        server.shutdown()

    assert printed == ["message a\u2028b\x85c\x0cd", "message e", "message f", "g", "end h"]
