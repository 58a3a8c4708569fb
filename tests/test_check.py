"""`serve check` finds the mistakes of the naive service, and nothing in generated code.

`naive/variants` contains the same mistakes in other forms, by an author who did not know the rules,
and similar code without them. A comment names the mistakes of its line: `# trap: U1` if they are
found, and `# missed: U4` if they are not.
"""

import ast
import re
from collections.abc import Iterator
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
#: Those that are also found in the variants.
IN_VARIANTS = {
    "U1", "U2", "U3", "U4", "U5", "U6", "U10", "U12", "U15", "D1", "D3", "D4", "D5", "D13",
    "R1", "R2", "R3", "R5", "R6", "R8", "R9", "R13", "E5", "E7", "E8", "E11", "E12",
}  # fmt: skip
VARIANTS = NAIVE / "variants"
FINDING = re.compile(r"\S+\.py:[1-9]\d*: ([UDRE]\d+) [^;]+; .+")


def check(project: Project, environment: Environment, *paths: Path, code: int = 0) -> list[str]:
    """Run the command, and return its lines."""
    serve = ["python", "-m", project.package, "check", *map(str, paths)]
    done = environment.run(project, *serve)
    assert done.returncode == code
    return done.stdout.splitlines()


def test_the_mistakes_of_the_naive_code_are_found(full: Project, environment: Environment) -> None:
    lines = check(full, environment, NAIVE / "service", NAIVE / "tests", code=1)

    matches = [FINDING.fullmatch(line) for line in lines]
    assert None not in matches
    assert {match[1] for match in matches if match} == FOUND


def marks(word: str) -> Iterator[tuple[str, int, str]]:
    """Yield the file, the line and the mistake of each comment with a word."""
    for path in sorted(VARIANTS.glob("*.py")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if found := re.search(rf"# .*?\b{word}: ([\w, ]+)", line):
                yield from ((path.name, number, trap) for trap in found[1].split(", "))


def place(name: str, line: int) -> tuple[str, int]:
    """Return the innermost function of a line, because some mistakes are the lack of a call."""
    tree = ast.parse((VARIANTS / name).read_text("utf-8"))
    starts = [line]
    for each in ast.walk(tree):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            start = min(each.lineno, *(one.lineno for one in [*each.decorator_list, each]))
            starts += [-start] if start <= line <= (each.end_lineno or 0) else []
    return name, min(starts)


def test_the_mistakes_are_found_in_code_that_was_written_without_the_rules(
    full: Project, environment: Environment
) -> None:
    lines = check(full, environment, VARIANTS, code=1)
    reasons = {row: TRAPS.entries[row].get("why", "") for row in TRAPS.rows}
    names = {
        row: re.findall(r"The finding has the name (\w+)", why) for row, why in reasons.items()
    }
    same = {row: [*found, row][0] for row, found in names.items()}
    found = set()
    for line in lines:
        path, number, trap = re.findall(r"^(.*\.py):(\d+): (\w+)", line)[0]
        found.add((Path(path).name, int(number), trap))
    places = {(*place(name, line), trap) for name, line, trap in found}
    marked, missed = [*marks("trap")], [*marks("missed")]

    assert [e for e in marked if (*place(*e[:2]), same[e[2]]) not in places] == []
    assert [e for e in missed if (*place(*e[:2]), same[e[2]]) in places] == []
    assert {trap for _, _, trap in marked} == IN_VARIANTS
    assert f"{len(marked)} of {len(marked) + len(missed)} places" in TRAPS.text()
    wrong = {(name, line) for name, line, _ in [*marked, *missed]}
    named = {(*place(name, line), trap) for name, line, trap in marked}
    assert [e for e in found if e[:2] not in wrong and (*place(*e[:2]), e[2]) not in named] == []


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
            if "# app.py" not in text and not text.startswith("# chat.py\n    "):  # A part of it.
                (tmp_path / f"{page.stem}_{number}.py").write_text(text, "utf-8")

    assert len([*tmp_path.iterdir()]) >= len({name for name, _ in blocks(full)})
    assert check(full, environment, tmp_path) == []


def test_it_needs_no_valid_settings(full: Project, environment: Environment) -> None:
    done = environment.run(full, "python", "-m", full.package, "check", APP_SERVER__PORT="none")

    assert (done.returncode, done.stdout) == (0, "")
