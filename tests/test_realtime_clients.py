"""Common clients follow a topic, and lose no events when their connection is dropped.

The tests install the newest versions of the clients.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from baking import Project
from dropping import DroppingLine
from environment import Environment, uv
from running import running

SOAK = int(os.environ.get("SOAK", "1"))
EVENTS = 20 * SOAK
#: Maximum seconds for one run of a client on a busy machine.
PATIENCE = 30 * (SOAK + 1)

#: Commands, with fixtures in braces; the arguments are the URL of a topic and a number of events.
CLIENTS = {
    "eventsource": "{node} {scripts}/eventsource.mjs",
    "eventsource-client": "{node} {scripts}/eventsource_client.mjs",
    "chromium": "{node} {scripts}/eventsource_browser.mjs {chromium}",
    "httpx-sse": "{python} {scripts}/httpx_sse_client.py",
}
#: The clients that store the id of a block without data, as the standard specifies. The others have
#: no position before their first event.
KNOW_THE_GREETING = ["chromium", "httpx-sse"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python interpreter with the client installed."""
    path = tmp_path_factory.mktemp("python-clients")
    uv("venv", "--quiet", "--clear", f"--python={sys.executable}", str(path))
    uv("pip", "install", "--quiet", f"--python={path}", "httpx", "httpx-sse")
    return Environment(path).python


@pytest.fixture
def command(client: str, request: pytest.FixtureRequest) -> list[str]:
    """The command of a client; installs the client if necessary."""

    class Fixtures(dict[str, Any]):
        __missing__ = staticmethod(request.getfixturevalue)

    return [word.format_map(Fixtures()) for word in CLIENTS[client].split()]


@pytest.fixture(scope="module")
def service(
    full: Project, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("service")
    with running(full, environment, folder, REALTIME__RETRY="50 ms") as port:
        yield port


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_is_dropped_after_every_third_event_gets_all_in_order(
    client: str, reset: bool, command: list[str], service: int
) -> None:
    # A busy browser may not read the data before a reset, including the first ids.
    topic = f"{client}-{reset}"
    begin = f"?last_event_id={position_of(service, topic)}"
    with (
        DroppingLine(service, events=3, reset=reset) as line,
        following(line, command, topic, begin) as process,
    ):
        published = publish(service, topic)
        assert output_of(process) == published

    assert line.drops >= (EVENTS - 1) // 3


@pytest.mark.parametrize("client", KNOW_THE_GREETING)
def test_a_client_that_is_dropped_before_its_first_event_misses_none(
    client: str, command: list[str], service: int
) -> None:
    topic = f"{client}-early"
    with DroppingLine(service, events=0) as line, following(line, command, topic) as process:
        # Repeated, because a busy browser may not read the data before a reset.
        while line.drops < 5:
            assert process.poll() is None, "the client does not come back"
            time.sleep(0.05)
        line.service_port = 0  # a port without a server
        published = publish(service, topic)
        line.events, line.service_port = EVENTS + 1, service
        assert output_of(process) == published


#: Prints the data of the first event.
FIRST = """
import sys, httpx
from httpx_sse import connect_sse
with httpx.Client(timeout=60) as client, connect_sse(client, "GET", sys.argv[1]) as source:
    print(repr(next(source.iter_sse()).data))
"""


@pytest.mark.parametrize(("query", "first"), [("", ""), ("&opening=false", f"№ 0\nof {EVENTS}")])
def test_a_client_that_reports_the_opening_as_an_empty_event_can_omit_it(
    query: str, first: str, python: Path, service: int
) -> None:
    topic = "opening"
    position = position_of(service, topic)
    publish(service, topic)
    url = f"http://127.0.0.1:{service}/topics/{topic}/events?last_event_id={position}{query}"
    printed = subprocess.check_output([python, "-X", "utf8", "-c", FIRST, url], encoding="utf-8")

    assert printed.strip() == repr(first)


@contextmanager
def following(
    line: DroppingLine, command: list[str], topic: str, query: str = ""
) -> Iterator["subprocess.Popen[str]"]:
    """Run a client, and yield it after it has subscribed."""
    words = [*command, f"{line.url}/topics/{topic}/events{query}", str(EVENTS)]
    end = time.monotonic() + PATIENCE
    with subprocess.Popen(words, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            while not line.greeted.wait(0.1):
                assert process.poll() is None, "the client ended before it had subscribed"
                assert time.monotonic() < end, "the client does not subscribe"
            yield process
        finally:
            process.kill()


def output_of(process: "subprocess.Popen[str]") -> list[list[str]]:
    """Wait for a client; return the type, id and data of each event that it has printed."""
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    return [json.loads(line) for line in printed.splitlines()]


def position_of(port: int, topic: str) -> str:
    """Return the current position of a topic."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request("GET", f"/topics/{topic}/events?poll=0")
        return str(json.loads(connection.getresponse().read())["last_event_id"])


def publish(port: int, topic: str) -> list[list[str]]:
    """Publish all events, and return the expected output of a client."""
    published = []
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        for number in range(EVENTS):
            text = f"№ {number}\nof {EVENTS}"
            fields = {"Content-Type": "text/plain; charset=utf-8"}
            connection.request("POST", f"/topics/{topic}/events", text.encode(), fields)
            published.append(["message", json.load(connection.getresponse())["id"], text])
    return published
