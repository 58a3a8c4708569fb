"""The code of a project's docs/runs.md runs in a generated service."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
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
QUESTION = {"messages": [{"role": "user", "content": "two words"}], "model": "m", "stream": True}

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
    for name in ("chat", "reports"):
        text = block(f"# {name}.py\n")
        (made.src / f"{name}.py").write_text(text.partition("\n")[2], "utf-8")
    imported, included = block("# app.py\n").partition("\n")[2].split("\n\n")
    app = made.src / "app.py"
    text = app.read_text("utf-8")
    text = text.replace("from . import (", f"from . import reports\n{imported}\nfrom . import (")
    included += "    app.include_router(reports.router)\n"
    app.write_text(text.replace("    return app", f"{included}    return app"), "utf-8")
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


def post(connection: HTTPConnection, path: str, body: object) -> HTTPResponse:
    fields = {"Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body).encode(), fields)
    return connection.getresponse()


def events_of(response: HTTPResponse) -> list[Fields]:
    """Return the fields of every event of a finite response."""
    blocks = response.read().decode().split("\n\n")
    assert blocks.pop() == ""  # no incomplete event
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


def assert_chunks(events: list[Fields]) -> None:
    """Compare events with those that OpenAI's client reads: all data up to `[DONE]`."""
    texts = [event["data"] for event in events]
    chunks = [json.loads(text) for text in texts[: texts.index("[DONE]")]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    (choices,) = zip(*(chunk["choices"] for chunk in chunks), strict=True)
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "two words "
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "stop"]
    assert all("event" not in event for event in events[:-1])
    assert [events[-1]["event"], events[-1]["data"]] == ["end", '{"status":"complete"}']


def test_the_chat_of_the_page_sends_the_chunks_of_openai(connection: HTTPConnection) -> None:
    parameters = {name: QUESTION[name] for name in ("messages", "model")}
    started = json.load(post(connection, "/runs/chat", parameters))
    connection.request("GET", urlsplit(started["events"]).path)

    assert_chunks(events_of(connection.getresponse()))


def test_clients_of_openai_ask_and_read_in_one_request(connection: HTTPConnection) -> None:
    response = post(connection, "/v1/chat/completions", QUESTION)
    assert response.status == 200
    assert response.headers.get_content_type() == "text/event-stream"
    where = response.headers["content-location"]
    events = events_of(response)

    assert_chunks(events)
    connection.request("GET", where, headers={"Last-Event-ID": events[1]["id"]})
    assert events_of(connection.getresponse())[-1] == events[-1]


def test_a_failing_chat_sends_an_error_that_clients_of_openai_raise(
    connection: HTTPConnection,
) -> None:
    response = post(connection, "/v1/chat/completions", {"messages": []})
    *_, error, end = [json.loads(event["data"]) for event in events_of(response)]

    assert error["error"]["message"] == "The response failed."
    assert end["status"] == "failed"


def test_the_report_of_the_page_sends_its_progress(connection: HTTPConnection) -> None:
    started = json.load(post(connection, "/runs/report", {"year": 2026, "regions": ["a", "b"]}))
    connection.request("GET", urlsplit(started["events"]).path)
    events = events_of(connection.getresponse())

    assert started["name"] == "report"
    assert [event["data"] for event in events if "data" in event] == [
        '{"done":1,"of":2}',
        '{"done":2,"of":2}',
        "The report of 2026.",
        '{"status":"complete"}',
    ]


def test_the_code_of_the_page_is_typed(project: Project, environment: Environment) -> None:
    assert environment.run(project, "mypy", "--no-incremental", "src").returncode == 0


def test_the_client_of_the_page_follows_a_run_to_its_end(
    connection: HTTPConnection, environment: Environment, tmp_path: Path
) -> None:
    started = json.load(post(connection, "/runs/counter", {"count": 2, "interval": 0.1}))

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
