"""`serve check` finds the mistakes of the naive service, and nothing in generated code."""

import re
from pathlib import Path

import pytest

from answers import SUBSETS, Subset, name_of, only
from baking import Bake, Project
from environment import Environment
from rows import TRAPS
from test_extending_docs import blocks

NAIVE = Path(__file__).parent / "naive"
#: The mistakes of the naive code that no guard corrects at run time.
FOUND = {
    "U1", "U3", "U4", "U5", "U6", "U10", "U12", "U15", "U16", "D1", "D3", "D4", "D5", "D13",
    "R1", "R2", "R3", "R5", "R6", "R8", "R9", "R13", "E5", "E7", "E8", "E11", "E12",
}  # fmt: skip
FINDING = re.compile(r"\S+\.py:[1-9]\d*: ([UDRE]\d+) [^;]+; .+")


def check(project: Project, environment: Environment, *paths: Path, code: int = 0) -> list[str]:
    """Run the command, and return its lines."""
    serve = ["python", "-m", project.package, "check", *map(str, paths)]
    done = environment.run(project, *serve)
    assert done.returncode == code
    return done.stdout.splitlines()


def test_the_mistakes_of_the_naive_code_are_found(full: Project, environment: Environment) -> None:
    lines = check(full, environment, NAIVE, code=1)

    matches = [FINDING.fullmatch(line) for line in lines]
    assert None not in matches
    assert {match[1] for match in matches if match} == FOUND


def test_the_names_of_the_rules_are_rows_of_the_page(full: Project) -> None:
    table = (full.src / "engine/check/rules.py").read_text("utf-8")
    page = (full.path / "docs/troubleshooting.md").read_text("utf-8")
    listed = page.partition("## Mistakes in your code")[2].partition("\n## ")[0]
    rules = re.findall(r"^    Rule\(\"(\w+)\"", table, re.MULTILINE)

    assert FOUND <= set(rules) <= set(TRAPS.rows)
    assert set(re.findall(r"\b[UDRE]\d+\b", listed)) == set(rules)


@pytest.mark.parametrize("subset", SUBSETS, ids=name_of)
def test_a_generated_service_has_none(subset: Subset, bake: Bake, environment: Environment) -> None:
    project = bake(**only(*subset))

    assert check(project, environment) == []
    assert check(project, environment, project.path / "src", project.path / "tests") == []


def test_the_examples_of_the_pages_have_none(
    full: Project, environment: Environment, tmp_path: Path
) -> None:
    pages = [*full.path.glob("*.md"), *full.path.glob("docs/*.md")]
    for page in pages:
        found = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
        for number, text in enumerate(found):
            if "# app.py" not in text:
                (tmp_path / f"{page.stem}_{number}.py").write_text(text, "utf-8")

    assert len([*tmp_path.iterdir()]) >= len({name for name, _ in blocks(full)})
    assert check(full, environment, tmp_path) == []


def test_it_needs_no_valid_settings(full: Project, environment: Environment) -> None:
    done = environment.run(full, "python", "-m", full.package, "check", APP_SERVER__PORT="none")

    assert (done.returncode, done.stdout) == (0, "")
