"""The code of a project's docs/extending.md runs in a generated service."""

import json
import re
import shlex
import socketserver
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from threading import Thread

import pytest
from packaging.requirements import Requirement

from answers import MODULES, REPOSITORY, only
from baking import TEMPLATE_FOLDER, Bake, Project
from environment import Environment, environment_for
from running import running

#: Packages that the page requires, in addition to those of every project.
INSTALLED = ["sqlalchemy[asyncio]>=2.0", "aiosqlite>=0.22"]
BLOCK = re.compile(r"^```python\n# (\w+)\.py\n(.*?)^```", re.MULTILINE | re.DOTALL)
VIRUS = b"a virus"
PAGE = (REPOSITORY / TEMPLATE_FOLDER / "docs/extending.md").read_text("utf-8")


class Scanner(socketserver.StreamRequestHandler):
    """A virus scanner with the part of the protocol of clamd that the page uses."""

    def handle(self) -> None:
        assert self.rfile.read(10) == b"zINSTREAM\0"
        body = b""
        while size := int.from_bytes(self.rfile.read(4), "big"):
            body += self.rfile.read(size)
        self.wfile.write(b"stream: Virus FOUND\0" if VIRUS in body else b"stream: OK\0")


@pytest.fixture(scope="module")
def scanner() -> Iterator[int]:
    """The port of a virus scanner."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Scanner) as server:
        Thread(target=server.serve_forever).start()
        yield server.server_address[1]
        server.shutdown()


def blocks(project: Project) -> list[tuple[str, str]]:
    """Return the name and the text of each file on the page of a project."""
    page = (project.path / "docs/extending.md").read_text("utf-8")
    assert len(BLOCK.findall(page)) == page.count("```python")
    return BLOCK.findall(page)


def extend(project: Project) -> list[str]:
    """Add the code of the page to a project, and return the names of the new modules."""
    files = [(name, text) for name, text in blocks(project) if name != "app"]
    for name, text in files:
        (project.src / f"{name}.py").write_text(text, "utf-8")
    routers = [name for name, text in files if "\nrouter = " in text]
    app = project.src / "app.py"
    text = app.read_text("utf-8")
    (listed,) = re.findall(r"from \. import \((.*?)\)", text, re.DOTALL)
    names = sorted([*listed.replace(",", "").split(), "scanner", *routers])
    text = text.replace(listed, "\n" + "".join(f"    {name},\n" for name in names))
    text = text.replace(")\nfrom ", ")\nfrom .database import lifespan\nfrom ", 1)
    text = text.replace("Files(files.callbacks,", "Files(files.callbacks, scanner.callbacks,")
    text = text.replace("ProblemDocuments()", "ProblemDocuments(seats.SOLD_OUT)")
    text = text.replace("\n    )\n", "\n        lifespan=lifespan,\n    )\n")
    lines = "".join(f"    app.include_router({name}.router)\n" for name in routers)
    app.write_text(text.replace("    return app", f"{lines}    return app"), "utf-8")
    settings = project.src / "settings.py"
    text = settings.read_text("utf-8")
    settings.write_text(text.replace("# database_url", "database_url"), "utf-8")
    return [name for name, _ in files]


@pytest.fixture(scope="module")
def project(bake_once: Bake) -> Project:
    """Generate a service and add all code of its page."""
    made = bake_once(auth="none")
    assert {"database", "orders", "purchases", "scanner"} <= set(extend(made))
    return made


@pytest.fixture(scope="module")
def extended(project: Project) -> Environment:
    """An environment with the packages that the page requires."""
    development = project.metadata["dependency-groups"]["dev"]
    return environment_for(project, [*development, *INSTALLED])


@pytest.fixture(scope="module")
def service(
    project: Project,
    extended: Environment,
    scanner: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[int]:
    """The port of that service."""
    example = project.src / "scanner.py"
    text = example.read_text("utf-8")
    assert "PORT = 3310\n" in text
    example.write_text(text.replace("3310", str(scanner)), "utf-8")
    with running(project, extended, tmp_path_factory.mktemp("service")) as port:
        yield port


@pytest.fixture
def connection(service: int) -> Iterator[HTTPConnection]:
    connected = HTTPConnection("127.0.0.1", service, timeout=60)
    yield connected
    connected.close()


def ask(
    connection: HTTPConnection, method: str, path: str, body: bytes = b"", **fields: str
) -> tuple[HTTPResponse, bytes]:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    connection.request(method, path, body, named)
    response = connection.getresponse()
    return response, response.read()


def test_rows_that_were_taken_into_the_database_leave_it_as_an_export(
    connection: HTTPConnection,
) -> None:
    rows = b"product,price\nbook,12.5\npen,-1\nlamp,30\n"
    _, report = ask(connection, "POST", "/ingest/orders", rows, content_type="text/csv")
    _, body = ask(connection, "GET", "/exports/orders")
    first, second, end = map(json.loads, body.splitlines())
    _, rest = ask(connection, "GET", f"/exports/orders?after={first['id']}", accept="text/csv")

    assert (json.loads(report)["accepted"], json.loads(report)["rejected"]) == (2, 1)
    assert [first["product"], second["product"], end] == ["book", "lamp", {"$end": {"count": 2}}]
    assert rest.split() == [b"id,product,price", f"{second['id']},lamp,30.0".encode()]


def test_the_transform_hides_and_shows_a_text(connection: HTTPConnection) -> None:
    for body, changed in [(b"the butler", b"gur ohgyre"), (b"gur ohgyre", b"the butler")]:
        assert ask(connection, "POST", "/transform/rot13", body)[1] == changed


def test_a_file_with_a_virus_is_refused_and_put_aside(connection: HTTPConnection) -> None:
    refused, problem = ask(connection, "POST", "/files", VIRUS)
    accepted, record = ask(connection, "POST", "/files", b"no harm")

    assert (refused.status, accepted.status) == (422, 201)
    assert json.loads(problem)["detail"] == "The file was refused by the virus scanner."
    assert ask(connection, "GET", f"/files/{json.loads(record)['id']}")[1] == b"no harm"


def test_a_notice_reaches_the_subscribers_of_its_topic(connection: HTTPConnection) -> None:
    _, position = ask(connection, "GET", "/topics/notices/events?poll=0")
    response, answer = ask(connection, "POST", "/notices?text=tea")
    since = json.loads(position)["last_event_id"]
    _, body = ask(connection, "GET", f"/topics/notices/events?poll=30&last_event_id={since}")
    (event,) = json.loads(body)["events"]

    assert response.status == 202
    assert event["id"] == json.loads(answer)["id"]
    assert (event["event"], event["data"]) == ("notice", {"text": "tea"})


def test_plain_events_arrive_one_by_one(connection: HTTPConnection) -> None:
    connection.request("GET", "/clock")
    response = connection.getresponse()

    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert response.readline().startswith(b'data: "20')
    assert response.readline() == b"\n"


def test_a_plain_body_has_the_limit_of_its_path_operation(connection: HTTPConnection) -> None:
    numbers = json.dumps([2.5] * 500_000).encode()
    _, mean = ask(connection, "POST", "/mean", numbers, content_type="application/json")
    refused, problem = ask(connection, "POST", "/mean", content_length=str(17 << 20))

    assert len(numbers) > 1 << 20
    assert mean == b"2.5"
    assert refused.status == 413
    assert json.loads(problem)["limit"] == 16 << 20


def test_a_stream_that_has_nothing_to_send_is_not_found(connection: HTTPConnection) -> None:
    response, _ = ask(connection, "GET", "/words")

    assert response.status == 404


def test_a_body_is_counted_as_it_arrives(connection: HTTPConnection) -> None:
    _, lines = ask(connection, "POST", "/words/count", b"one\ntwo\n", content_type="text/plain")
    refused, _ = ask(connection, "POST", "/words/count", b"1", content_type="image/png")

    assert (lines, refused.status) == (b"2", 415)


def test_the_thirteenth_seat_is_a_problem_of_its_own_type(connection: HTTPConnection) -> None:
    statuses = [ask(connection, "POST", "/seats")[0].status for _ in range(12)]
    _, problem = ask(connection, "POST", "/seats")
    page, text = ask(connection, "GET", "/problems/sold-out")

    assert statuses == [200] * 12
    assert json.loads(problem)["type"] == "/problems/sold-out"
    assert json.loads(problem)["next"] == "2027-01-01"
    assert (page.status, b"All seats are taken;" in text) == (200, True)


def test_the_packages_of_the_page_are_those_that_it_adds() -> None:
    (added,) = re.findall(r"`uv add ([^`]+)`", PAGE.replace("\n", " "))

    assert [Requirement(each).name for each in shlex.split(added)] == [
        Requirement(each).name for each in INSTALLED
    ]


@pytest.mark.parametrize("command", ["ruff format --check", *re.findall(r"`uv run ([^`]+)`", PAGE)])
@pytest.mark.usefixtures("service")  # The tests store files, which the scanner inspects.
def test_the_code_of_the_page_passes_the_checks_of_the_project(
    command: str, project: Project, extended: Environment
) -> None:
    assert extended.run(project, *command.split()).returncode == 0


def test_the_commands_of_the_page_are_those_of_the_project() -> None:
    assert set(re.findall(r"`uv run ([^`]+)`", PAGE)) == {
        "pytest", "ruff check", "mypy", "lint-imports"
    }  # fmt: skip


@pytest.mark.parametrize("modules", [*((module,) for module in MODULES), MODULES], ids="+".join)
def test_the_pages_of_a_project_link_to_nothing_that_is_not_there(
    modules: tuple[str, ...], bake: Bake
) -> None:
    project = bake(**only(*modules))

    for page in [*project.path.glob("*.md"), *project.path.rglob("docs/*.md")]:
        text = page.read_text("utf-8")
        assert "{%" not in text
        assert "\n\n\n" not in re.sub(r"```.*?```", "…", text, flags=re.DOTALL), page
        for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", text):
            linked = page.parent / target if target else page
            assert linked.exists(), f"{page}: {target}"
            assert not anchor or anchor in anchors(linked), f"{page}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}
