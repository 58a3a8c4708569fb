"""The JSON Schemas of docs/realtime.md describe the real messages of a WebSocket."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from answers import REPOSITORY
from baking import TEMPLATE_FOLDER, Project
from environment import Environment
from running import running
from tools import run

PAGE = (REPOSITORY / TEMPLATE_FOLDER / "docs/realtime.md").read_text("utf-8")
CLIENT = Path(__file__).parent / "clients" / "websocket_frames.py"


def schema(title: str) -> dict[str, Any]:
    """Return the schema of the page with a title."""
    found = map(json.loads, re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    (one,) = [each for each in found if each["title"] == title]
    return dict(one)


@pytest.fixture(scope="module")
def conversation(
    full: Project, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[str, Any]]:
    """The messages of a client and of the service, with their kinds."""
    folder = tmp_path_factory.mktemp("service")
    with running(full, environment, folder, REALTIME__MAX_REPLAY="1") as port:
        url = f"ws://127.0.0.1:{port}/topics/news/ws"
        done = environment.run(full, "python", str(CLIENT), url)
    assert done.returncode == 0
    return [(kind, value) for kind, value in map(json.loads, done.stdout.splitlines())]


def refused(title: str, values: list[Any], folder: Path) -> list[Any]:
    """Return the values that do not match the schema of the page with a title."""
    against = folder / "schema.json"
    against.write_text(json.dumps(schema(title)), "utf-8")
    files = {str(folder / f"{number}.json"): value for number, value in enumerate(values)}
    for name, value in files.items():
        Path(name).write_text(json.dumps(value), "utf-8")
    done = run("check-jsonschema", "--output-format=json", f"--schemafile={against}", *files)
    report = json.loads(done.output)
    assert report.get("parse_errors", []) == []
    names = {error["filename"] for error in report["errors"]}
    return [value for name, value in files.items() if name in names]


def test_the_schema_of_frames_describes_all_kinds_of_frames(
    conversation: list[tuple[str, Any]], tmp_path: Path
) -> None:
    frames = [value for kind, value in conversation if kind == "frame"]
    kinds = {each["properties"]["type"]["const"] for each in schema("Frame")["oneOf"]}

    assert refused("Frame", frames, tmp_path) == []
    assert {frame["type"] for frame in frames} == kinds


def test_the_schema_of_frames_refuses_incomplete_frames(
    conversation: list[tuple[str, Any]], tmp_path: Path
) -> None:
    incomplete = [
        {name: member for name, member in value.items() if name != missing}
        for kind, value in conversation
        for missing in value
        if kind == "frame" and missing != "ref"
    ]

    assert refused("Frame", incomplete, tmp_path) == incomplete


def test_the_schema_of_commands_agrees_with_the_service(
    conversation: list[tuple[str, Any]], tmp_path: Path
) -> None:
    sent = [value for kind, value in conversation if kind in ("command", "invalid")]
    rejected = [
        value
        for (kind, value), (_, response) in pairwise(conversation)
        if kind in ("command", "invalid") and response["type"] == "error"
    ]

    assert rejected == [value for kind, value in conversation if kind == "invalid"]
    assert refused("Command", sent, tmp_path) == rejected
