"""SECURITY.md names settings that the project has, with their defaults, and all verdicts."""

import json
import re
from pathlib import Path

import pytest

from answers import EVERYTHING, MODULES, Answers, only
from baking import Bake
from environment import Environment

#: Defaults that are no value of a setting.
WORDS = {"none": "", "unlimited": None, "unset": None}
#: Prints each setting that is passed as JSON with its default, with the default of the page read as
#: a value, and whether both are the same.
CHECK = """
import json, os, sys
from streaming_service.settings import Settings

def found(settings, name):
    section, _, field = name.removeprefix("APP_").lower().partition("__")
    return getattr(getattr(settings, section, None), field, "no such setting")

usual = Settings(_env_file=None)
for name, shown in json.loads(sys.argv[1]).items():
    default = found(usual, name)
    if isinstance(shown, list):
        same = default != "no such setting" and (shown == [] or default == shown[0])
    else:
        os.environ[name] = shown
        same = found(Settings(_env_file=None), name) == default != "no such setting"
        del os.environ[name]
    if not same:
        print(name, "is", default, "and not", shown)
"""

CHOICES: list[Answers] = [
    EVERYTHING,
    EVERYTHING | {"resumable_uploads": False},
    EVERYTHING | {"use_chat": False},
    *(EVERYTHING | only(module) for module in MODULES),
]


def tables_of(page: str) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


def told(page: str) -> dict[str, str | list[str | None]]:
    """Return the default of each setting of the page: a value, a list with one, or an empty list.

    The list is empty if the page names no default.
    """
    found: dict[str, str | list[str | None]] = {
        name: [] for name in re.findall(r"APP_[A-Z]+__[A-Z_]+", page)
    }
    for row in tables_of(page):
        if (name := row[1].strip("`")) in found:
            word = row[2].partition(":")[0]
            found[name] = [WORDS[word]] if word in WORDS else row[2]
    return found


@pytest.mark.fault("G43")
@pytest.mark.parametrize("answers", CHOICES, ids=lambda answers: "+".join(map(str, answers)))
def test_every_setting_exists_and_has_the_default_of_the_page(
    answers: Answers, bake_once: Bake, environment: Environment
) -> None:
    project = bake_once(**answers)
    page = (project.path / "SECURITY.md").read_text("utf-8")
    settings = told(page)
    done = environment.run(project, "python", "-c", CHECK, json.dumps(settings))

    assert (done.returncode, done.stdout) == (0, "")
    assert len([name for name in settings if settings[name]]) >= 14
    assert "{%" not in page


def test_every_row_is_complete_and_every_link_leads_to_a_page(bake_once: Bake) -> None:
    project = bake_once(**EVERYTHING)
    page = (project.path / "SECURITY.md").read_text("utf-8")

    assert {len(row) for row in tables_of(page)} == {3}
    verdicts = {row[1] for row in tables_of(page) if re.match(r"(API)?\d", row[0])}
    assert verdicts == {"met", "partly", "not done", "not applicable"}
    for path, _, heading in re.findall(r"\]\(([\w/.]+)(#([\w-]+))?\)", page):
        linked = (project.path / Path(path)).read_text("utf-8")
        assert not heading or f"\n## {heading.replace('-', ' ')}\n" in linked.lower()
