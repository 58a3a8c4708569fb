"""The pages of a service in a browser: one connection for events, and the policy of the docs."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from baking import Project
from environment import Environment
from running import LINK, RUNNING, redis_server, running, started

#: Runs in the same process of pytest as the other tests with this browser.


def script(*command: str | Path, folder: Path | None = None, source: str = "") -> object:
    """Run a script in Node, and return the JSON that it prints.

    It can run commands of the project whose code is in `source`, in the folder of a service.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": source},
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout)


CONFINED = {"elsewhere": [], "refused": [], "smuggled": False}
LOGO = "img-src https://cdn.redoc.ly/redoc/logo-mini.svg"  # ReDoc works without it.
WORKING = {
    "messages": ["first", "second"],
    "streams": ["/topics/files,a,b/events"],
    "content": "content",
    "isZip": True,
    "isTooWide": False,
    "history": 2,  # The blank page of the tab and the demo page.
    "leaks": [],
    "errors": [],
}


def test_files_and_topics_are_live_over_one_connection_and_a_run_survives_a_reload(
    full: Project, environment: Environment, node: str, scripts: Path, chromium: str, tmp_path: Path
) -> None:
    with running(full, environment, tmp_path) as port:
        address = f"http://127.0.0.1:{port}"
        shown = script(node, scripts / "demo_page.mjs", chromium, address, tmp_path)

    assert shown == WORKING


def test_the_page_works_with_the_key_of_the_printed_link_and_removes_it_from_its_address(
    complete: Project,
    environment: Environment,
    node: str,
    scripts: Path,
    chromium: str,
    tmp_path: Path,
) -> None:
    with started(complete, environment, tmp_path, until=LINK) as service:
        shown = script(node, scripts / "demo_page.mjs", chromium, service.line, tmp_path)

    assert shown == WORKING
    key = service.line.partition("key=")[2]
    assert not any(key in line for line in service.log)


def test_the_page_asks_for_a_key_and_shows_what_the_key_permits(
    complete: Project,
    environment: Environment,
    node: str,
    scripts: Path,
    chromium: str,
    tmp_path: Path,
) -> None:
    keys = [str(environment.python), "-m", complete.package, "keys"]
    source = str(complete.path / "src")

    def create(role: str) -> str:
        command = [*keys, "create", role, role]
        environ = os.environ | {"PYTHONPATH": source}
        return subprocess.check_output(command, text=True, cwd=tmp_path, env=environ).strip()

    with started(complete, environment, tmp_path, until=LINK) as service:
        steps = {
            "link": service.line,
            "member": create("member"),
            "reader": create("reader"),
            "revoke": [*keys, "revoke", "member"],
            "folder": str(tmp_path),
        }
        address = f"http://127.0.0.1:{service.port}"
        command = (node, scripts / "page_access.mjs", chromium, address, json.dumps(steps))
        shown = script(*command, folder=tmp_path, source=source)

    assert shown == {
        "parts": 0,
        "files": {"admin": ["other.txt", "mine.txt"], "member": ["mine.txt"]},
        "isKept": True,
        "greeting": "bearer subscribed",
        "controls": [
            *("Forget key", "Load newer", "Watch", "Drop the connection", "Resume", "Clear"),
        ],
        "forgotten": 0,
        "isPrompt": True,
        "errors": [],
    }


def test_the_documentation_of_the_api_runs_under_its_policy_and_nothing_else_does(
    full: Project, environment: Environment, node: str, scripts: Path, chromium: str, tmp_path: Path
) -> None:
    with running(full, environment, tmp_path) as port:
        address = f"http://127.0.0.1:{port}"
        shown = script(node, scripts / "docs_pages.mjs", chromium, address)

    assert shown == {"/docs": CONFINED, "/redoc": {**CONFINED, "refused": [LOGO]}}


def test_the_documentation_shows_the_security_schemes_and_sends_a_key(
    complete: Project,
    environment: Environment,
    node: str,
    scripts: Path,
    chromium: str,
    tmp_path: Path,
) -> None:
    with started(complete, environment, tmp_path, until=LINK) as service:
        address, _, key = service.line.partition("/#key=")
        shown = script(node, scripts / "docs_pages.mjs", chromium, address, key)

    assert shown == {
        "/docs": {**CONFINED, "used": "200"},
        "/redoc": {**CONFINED, "refused": [LOGO], "used": "Authorizations:bearerapiKey"},
    }


PARTS = [
    "Assistant · Failed: Bad gateway (HTTP 502).",
    "ReasoningFirst <i>this</i>, then that.",
    'Call: weather{"city": "Bonn"}',
    'Result: weather{\n  "degrees": 12\n}',
    "It is cold: 12",
]


@pytest.mark.parametrize(
    ("project", "until", "stored"),
    [("full", RUNNING, ["chat of /"]), ("complete", LINK, [])],
    ids=["open", "keys"],
)
def test_a_conversation_is_the_same_after_reloads_and_in_two_tabs_and_no_reply_starts_twice(
    project: str,
    until: re.Pattern[str],
    stored: list[str],
    request: pytest.FixtureRequest,
    environment: Environment,
    node: str,
    scripts: Path,
    chromium: str,
    tmp_path: Path,
) -> None:
    found: Project = request.getfixturevalue(project)
    small = {"REALTIME__MAX_RUN_SIZE": "65536"}
    with started(found, environment, tmp_path, until, **small) as service:
        address = service.line.removeprefix("running on ")
        shown = script(node, scripts / "chat_page.mjs", chromium, address, tmp_path)

    assert shown == {
        "exact": [True, True],
        "once": [201],
        "keys": "a\nb",
        "focus": ["chat-text", "chat-send"],
        "stopped": True,
        "same": [True, True],
        "late": True,
        "retried": [True, True, ["lost", 200]],
        "reloaded": [True, True, ["lost"]],
        "empty": 0,
        "returned": 100_000,
        "parts": PARTS,
        "isTooWide": False,
        "others": 0,
        "stored": stored,
        "errors": [],
    }


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """The address of a Redis."""
    with redis_server(tmp_path) as port:
        yield f"redis://127.0.0.1:{port}/0"


def test_a_reply_continues_when_the_replica_of_its_reader_is_killed(
    full: Project,
    environment: Environment,
    node: str,
    scripts: Path,
    chromium: str,
    broker: str,
    tmp_path: Path,
) -> None:
    shared = {"REALTIME__BROKER_URL": broker, "REALTIME__RETRY": "0.1"}
    with (
        started(full, environment, tmp_path, RUNNING, **shared) as own,
        started(full, environment, tmp_path, RUNNING, **shared) as other,
    ):
        replicas = json.dumps([[each.port, each.process.pid] for each in (own, other)])
        shown = script(node, scripts / "chat_replicas.mjs", chromium, replicas)

    assert shown == {"exact": [True, True], "runs": 2, "resumed": True, "errors": []}


def test_the_page_ends_lines_where_the_standard_does(
    full: Project, environment: Environment, node: str, scripts: Path, chromium: str, tmp_path: Path
) -> None:
    with running(full, environment, tmp_path) as port:
        address = f"http://127.0.0.1:{port}"
        shown = script(node, scripts / "stream_lines.mjs", chromium, address)

    assert shown == {
        "splits": [["a", "b\u2028", "c", "", "d", "", "", "é"]],
        "event": ["message", "a\u2028b\x85c\nd", "7"],
    }


PUBLISHED = [f"event {number}" for number in range(1, 21)]


def test_events_arrive_once_and_in_order_although_connections_break(
    full: Project, environment: Environment, node: str, scripts: Path, chromium: str, tmp_path: Path
) -> None:
    with running(full, environment, tmp_path) as port:
        shown = script(node, scripts / "page_topics.mjs", chromium, str(port))

    assert shown == {
        "shown": PUBLISHED,
        "isSame": True,
        "words": [True, True],
        "bars": 60,
        "many": [f"hello {number}" for number in range(1, 21)],
        "most": 1,
        "errors": [],
    }
