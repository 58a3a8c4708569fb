"""Pages of other origins, and of names that were rebound to the service, can neither change nor
read data in a browser. The pages of the service and of allowed origins can do both."""

import json
import subprocess
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import pytest

from baking import Project
from environment import Environment
from running import started

#: Runs in the same process of pytest as the other tests with this browser.
ALLOWED = "http://app.example"
#: The URL of each page, and the URL at which it requests the service.
PAGES = {
    "foreign": ("http://evil.example/page", "http://127.0.0.1:{port}"),
    "neighbour": ("http://127.0.0.1:1/page", "http://127.0.0.1:{port}"),
    "opaque": ("data:text/html,page", "http://127.0.0.1:{port}"),
    "rebound": ("http://evil.example:{port}/page", "http://evil.example:{port}"),
    "own": ("http://localhost:{port}/page", "http://localhost:{port}"),
    "allowed": (f"{ALLOWED}/page", "http://127.0.0.1:{port}"),
}
#: Modifying requests without a preflight request, and their status if they are allowed.
CHANGES = {"form": 201, "text-form": 202, "beacon": 202, "publish": 202, "run": 201, "upload": 201}
#: Maximum seconds until the service has received all requests of a page.
PATIENCE = 20


class Seen(NamedTuple):
    """The statuses of a page's requests, its results, and the state of the service afterwards."""

    statuses: dict[str, int]
    done: dict[str, bool]
    events: list[str]
    uploads: int
    #: Whether the file that the page has tried to delete still exists.
    kept: bool


NOTHING = dict.fromkeys(["read", "socket", "events", "removed"], False)
ALL = dict.fromkeys(NOTHING, True)


@pytest.fixture(scope="module")
def seen(
    full: Project, environment: Environment, node: str, scripts: Path, chromium: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Seen]:  # fmt: skip
    """Let each page try all requests."""
    folder = tmp_path_factory.mktemp("service")
    with started(full, environment, folder, CORS__ORIGINS=ALLOWED) as service:
        port = service.port
        before, files, words = {}, {}, [node, str(scripts / "foreign_pages.mjs"), chromium]
        for name, addresses in PAGES.items():
            before[name] = ask(port, "GET", f"/topics/{name}/events?poll=0")[0]["last_event_id"]
            files[name] = ask(port, "POST", "/files?filename=mine.txt", b"mine")[0]["id"]
            words += [name, *(each.format(port=port) for each in addresses), files[name]]

        pipe = subprocess.PIPE
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, encoding="utf-8") as pages:
            assert pages.stdout is not None
            printed = pages.stdout.readline()
            assert printed, "the pages have not done all in time"
            done = json.loads(printed)
            statuses = statuses_when_all_are_there(lambda: list(service.log))

        listed = ask(port, "GET", "/files")
        kept = [each.get("id") for each in listed]
        names = [each.get("filename") for each in listed]
        return {
            name: Seen(
                statuses[name],
                done[name],
                events_of(ask(port, "GET", f"/topics/{name}/events?poll=0&last_event_id={start}")),
                names.count(f"{name}.txt"),
                files[name] in kept,
            )
            for name, start in before.items()
        }


@pytest.mark.parametrize(
    ("page", "status"),
    [
        pytest.param("foreign", 403, marks=pytest.mark.bound("9.2")),
        pytest.param("neighbour", 403, marks=pytest.mark.bound("9.2")),
        pytest.param("opaque", 403, marks=pytest.mark.bound("9.2")),
        pytest.param("rebound", 421, marks=pytest.mark.bound("9.1")),
    ],
)
def test_a_page_of_another_origin_or_a_rebound_name_can_do_nothing(
    page: str, status: int, seen: dict[str, Seen]
) -> None:
    assert seen[page] == Seen(dict.fromkeys(CHANGES, status), NOTHING, [], 0, kept=True)


@pytest.mark.parametrize("page", ["own", "allowed"])
def test_a_page_of_the_service_or_an_allowed_origin_can_do_all(
    page: str, seen: dict[str, Seen]
) -> None:
    events = ["a=text\r\n", "beacon", "fetch"]
    assert seen[page] == Seen(CHANGES, ALL, events, 2, kept=False)


def statuses_when_all_are_there(log: Callable[[], list[str]]) -> dict[str, dict[str, int]]:
    """Wait until the service has responded to each request; return the statuses by page."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = statuses_of(log())
        missing = {name: CHANGES.keys() - found.get(name, {}).keys() for name in PAGES}
        if not any(missing.values()):
            return found
        assert time.monotonic() < deadline, f"the service has not seen {missing}"
        time.sleep(0.02)


def statuses_of(log: list[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for request in map(json.loads, log):
        for by in parse_qs(request.get("query", "")).get("by", []):
            page, _, change = by.partition("-")
            found.setdefault(page, {})[change] = request["status"]
    return found


def events_of(polled: list[Any]) -> list[str]:
    """Return the data of events, sorted, because a page sends them in parallel."""
    return sorted(event["data"] for event in polled[0]["events"])


def ask(port: int, method: str, path: str, body: bytes = b"") -> list[Any]:
    """Return the JSON document of a response, or its lines."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body)
    lines = [json.loads(line) for line in connection.getresponse()]
    connection.close()
    return lines
