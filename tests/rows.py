"""What was seen to go wrong, row by row: what other code does, what ours does, and our tests of it.

`python tests/rows.py` writes docs/traps.md, docs/faults.md and docs/bounds.md: from traps.toml,
faults.toml and bounds.toml, and from the marks of the tests.
"""

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PROJECT = REPOSITORY / "{{cookiecutter.project_slug}}" / "tests" / "engine"
TEMPLATE = REPOSITORY / "tests"
#: What the table of the bounds has beside their titles.
COLUMNS = ("setting", "default", "metric", "problem")

TRAPS_INTRODUCTION = """\
# The traps

What streaming code gets wrong when it is written the way tutorials write it. Each row was seen on
such a service, and each is a test: it runs against a real server over a real socket, a generated
service passes it, and [the service of the tutorials](../tests/naive) fails it
([`test_naive.py`](../tests/test_naive.py) holds that). Tests are named with their file below
`tests/engine` of a generated project; a project has those of its modules, with the answer
`engine_tests`.

`python tests/rows.py` writes this page, from `tests/traps.toml` and the marks of the tests.
"""

FAULTS_INTRODUCTION = """\
# Faults of the field

What an earlier version of this template got wrong with real clients. Faults that people report of
uploads, downloads and real-time streams were tried on a generated service; these are the ones that
it had. The tests of each run over a real socket, and fail on the last version that had the fault:
`make prove-faults` runs them on that version, as they were before 0.2.0, and prints a table. Tests
are named with their file below `tests/engine` of a generated project; those of the template begin
with `template:`.

`python tests/rows.py` writes this page, from `tests/faults.toml` and the marks of the tests.
"""

BOUNDS_INTRODUCTION = """\
# Bounds

What one client can make the service do is bounded: per turn of the event loop, per request, per
connection, per client, and in total. Each bound is a setting with a default that an honest client
does not meet; when it is reached, a metric counts it, and what is refused gets
[a problem document](../{{cookiecutter.project_slug}}/docs/problems.md). The tests
of each run over a real socket. Those of the bounds with a "before" fail on the last version without
them: `make prove-faults` shows it, for the bounds before 0.2.0. Tests are named with their file
below `tests/engine` of a generated project; those of the template begin with `template:`.

`make bench-hostile` measures how fast the service responds to others while one connection, or
twenty, attack it, and `make bench-single` what the costliest single requests cost.

`python tests/rows.py` writes this page, from `tests/bounds.toml` and the marks of the tests.
"""


class Table:
    """The rows of one page, and the tests that are marked with their names."""

    def __init__(
        self, mark: str, introduction: str, before: str, *folders: Path, home: Path = TEMPLATE
    ) -> None:
        """`folders` have the tests; the one that is `home` also has the rows."""
        self.mark = mark
        self.page = REPOSITORY / "docs" / f"{mark}s.md"
        self._introduction = introduction
        self._before = before
        self._folders = folders
        self._home = home

    @cached_property
    def entries(self) -> dict[str, dict[str, str]]:
        return tomllib.loads((self._home / f"{self.mark}s.toml").read_text("utf-8"))

    @property
    def rows(self) -> list[str]:
        """The names of the rows; a single letter names a group of them."""
        return [name for name in self.entries if name[1:]]

    def marked(self) -> dict[str, list[str]]:
        """Return the tests of each row, as `path::name`."""
        found: dict[str, list[str]] = defaultdict(list)
        for folder in self._folders:
            label = "template:" if folder == self._home else ""
            for path in sorted(folder.rglob("test_*.py")):
                # What Jinja puts in is a name.
                source = re.sub(r"\{\{ *cookiecutter.*?\}\}", "package", path.read_text("utf-8"))
                tree = ast.parse(source, str(path))
                for node in ast.walk(tree):
                    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                        name = f"{label}{path.relative_to(folder).as_posix()}::{node.name}"
                        for row in dict.fromkeys(self._rows_of(node, tables_of(tree))):
                            found[row].append(name)
        return dict(found)

    def text(self) -> str:
        """Return what the page has to say now."""
        tests = self.marked()
        parts = [self._introduction, self._overview()]
        for name, entry in self.entries.items():
            if name in self.rows:
                parts += [f"### {name}: {entry['title']}", self._block(entry, tests.get(name, []))]
            else:
                parts += [f"## {entry['title']}", entry["about"]]
        return "\n\n".join(part.strip() for part in parts if part) + "\n"

    def _overview(self) -> str:
        """Return a table of the rows, if they have columns beside their texts."""
        rows = {name: self.entries[name] for name in self.rows}
        if not any("setting" in row for row in rows.values()):
            return ""
        lines = [f"| bound | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
        for name, row in rows.items():
            cells = [f"{name}: {row['title']}", *(row[column] for column in COLUMNS)]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def _rows_of(
        self, function: ast.FunctionDef | ast.AsyncFunctionDef, tables: dict[str, ast.AST]
    ) -> Iterator[str]:
        """Yield the rows whose mark a test has, or one of its parameters."""
        waiting: list[ast.AST] = [*function.decorator_list]
        while waiting:
            for node in ast.walk(waiting.pop()):
                match node:
                    case ast.Call(func=ast.Attribute(attr=self.mark), args=arguments):
                        yield from (str(ast.literal_eval(argument)) for argument in arguments)
                    case ast.Name(id=name) if name in tables:
                        waiting.append(tables.pop(name))

    def _block(self, entry: dict[str, str], tests: list[str]) -> str:
        places = (test.partition("::") for test in tests)
        named = (f"  * `{name}` in `{path}`" for path, _, name in places)
        before = [f"* {self._before}: {entry['naive']}"] if "naive" in entry else []
        return "\n".join([*before, f"* Here: {entry['ours']}", "* Tests:", *named])


def tables_of(tree: ast.Module) -> dict[str, ast.AST]:
    """Return what the names of a module stand for, such as the tables of its tests' parameters."""
    assigned = (node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign))
    found: dict[str, ast.AST] = {}
    for node in assigned:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        found |= {
            each.id: node.value for each in targets if isinstance(each, ast.Name) and node.value
        }
    return found


TRAPS = Table("trap", TRAPS_INTRODUCTION, "Ordinary code", PROJECT)
FAULTS = Table("fault", FAULTS_INTRODUCTION, "Before", PROJECT, TEMPLATE)
BOUNDS = Table("bound", BOUNDS_INTRODUCTION, "Before", PROJECT, TEMPLATE)
TABLES = (TRAPS, FAULTS, BOUNDS)

if __name__ == "__main__":
    for table in TABLES:
        table.page.write_text(table.text(), "utf-8")
