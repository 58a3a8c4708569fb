"""The tables of a project's docs/observability.md agree with a generated service."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest

from baking import Project
from environment import Environment
from running import started

#: Fields that not every request has.
OPTIONAL = {"trace_id"}


@pytest.fixture(scope="module")
def page(full: Project) -> str:
    return (full.path / "docs/observability.md").read_text("utf-8")


def names(page: str, beginning: str) -> set[str]:
    """Return the names in the first column of the table with this heading."""
    table = page.split(f"| {beginning} |")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@contextmanager
def connected(port: int) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def served(
    full: Project, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[str]]:
    """Return the metrics and the log of a service after a request."""
    folder = tmp_path_factory.mktemp("service")
    with started(full, environment, folder) as service, connected(service.port) as connection:
        connection.request("GET", "/files/0198c6e6-0000-7000-8000-000000000000/record?token=hidden")
        connection.getresponse().read()
        connection.request("GET", "/metrics")
        metrics = connection.getresponse().read().decode()
    return metrics, service.log


def test_the_page_names_every_metric_and_no_other(served: tuple[str, list[str]], page: str) -> None:
    assert names(page, "metric") == set(re.findall(r"# TYPE (\S+)", served[0]))


def test_the_page_names_the_labels(served: tuple[str, list[str]], page: str) -> None:
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    told = {
        name: set(re.findall(r"\w+", labels))
        for row, labels in rows
        for name in re.findall(r"`(\w+)`", row)
    }
    for sample in re.findall(r"^(\w+)\{(.*)\} ", served[0], re.MULTILINE):
        name = re.sub("_(bucket|sum|count)$", "", sample[0])
        labels = set(re.findall(r'(\w+)="', sample[1])) - {"le"}
        assert labels == told[name], name


def test_the_page_names_every_field_of_the_line_of_a_request(
    served: tuple[str, list[str]], page: str
) -> None:
    lines = [json.loads(line) for line in served[1]]
    [line] = [line for line in lines if line["event"] == "request"]

    assert set(line) == names(page, "field") - OPTIONAL
    assert "hidden" not in "".join(served[1])
