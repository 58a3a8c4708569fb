"""The demo page in each of its states, and with each set of modules."""

import json
import re
from contextlib import ExitStack
from pathlib import Path

from answers import MODULES, SUBSETS, Answers, Subset, name_of, only
from baking import Bake, Project
from environment import Environment
from running import LINK, RUNNING, started
from test_page_browser import script
from tools import program

LINES = [f'{{"number":{number},"text":"line {number}"}}' for number in range(1, 6)]
ROWS = ["number,text", *(f"{number},line {number}" for number in range(1, 6))]


def test_each_state_of_the_page_is_accessible_and_makes_no_other_requests(
    complete: Project,
    environment: Environment,
    node: str,
    scripts: Path,
    chromium: str,
    tmp_path: Path,
) -> None:
    program("curl")
    with started(complete, environment, tmp_path, until=LINK) as service:
        shown = script(node, scripts / "page_states.mjs", chromium, service.line, tmp_path)

    assert isinstance(shown, dict)
    csv, (*lines, error) = shown["cut"]["records"]
    assert (csv, lines) == (ROWS, LINES)
    assert json.loads(error)["$error"]["status"] == 500
    assert re.search(r"5 lines and the error record .*fetch\(\) was rejected", shown["cut"]["text"])
    del shown["cut"]
    assert shown == {
        "found": [],
        "isRunning": True,
        "different": [],
        "described": 200,
        "statuses": {
            "POST /topics/demo/events": "202",
            "PATCH /uploads": "404",
            "GET /access": "200",
            "GET /access, unknown key": "401",
            "GET /files?limit=0": "422",
            "POST /ingest": "400",
        },
        "quoted": ["@it'\\''s.txt'", "@body'", "@body'"],
        "announced": [],
        "isSecret": True,
        "problems": [],
    }


PANELS = {
    "use_upload": {"Upload", "Files"},
    "use_download": {"Files"},
    "use_realtime": {"Topics", "Runs"},
    "use_error_handling": set[str](),
}


def answers_of(subset: Subset, index: int) -> Answers:
    """Select a set of modules; access control and chat alternate."""
    auth = "api-key" if index % 2 else "none"
    return only(*subset) | {"auth": auth, "use_chat": index % 4 < 2, "engine_tests": False}


def panels_of(answers: Answers) -> set[str]:
    found = {"Errors"}.union(*(PANELS[module] for module in MODULES if answers[module]))
    return found | {"Chat"} if answers["use_realtime"] and answers["use_chat"] else found


def test_the_page_works_with_each_set_of_modules(
    bake_once: Bake,
    environment: Environment,
    node: str,
    scripts: Path,
    chromium: str,
    tmp_path: Path,
) -> None:
    expected, addresses = {}, {}
    with ExitStack() as services:
        for index, subset in enumerate(SUBSETS):
            name, answers = name_of(subset), answers_of(subset, index)
            project, folder = bake_once(**answers), tmp_path / name
            folder.mkdir()
            until = LINK if answers["auth"] == "api-key" else RUNNING
            service = services.enter_context(started(project, environment, folder, until))
            addresses[name] = service.line.removeprefix("running on ")
            expected[name] = panels_of(answers)
        given = json.dumps(addresses)
        shown = script(node, scripts / "page_subsets.mjs", chromium, tmp_path, given)

    assert isinstance(shown, dict)
    assert {name: set(found.pop("panels")) for name, found in shown.items()} == expected
    works = {"problems": [], "different": [], "isTooWide": False, "hole": False}
    assert shown == dict.fromkeys(addresses, works)
