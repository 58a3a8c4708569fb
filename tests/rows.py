"""What was seen to go wrong, row by row: what other code does, what ours does, and our tests of it.

`python tests/rows.py` writes docs/traps.md and docs/faults.md: from traps.toml and faults.toml, and
from the marks of the tests.
"""

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PROJECT = REPOSITORY / "{{cookiecutter.project_slug}}" / "tests"
TEMPLATE = REPOSITORY / "tests"

TRAPS_INTRODUCTION = """\
# The traps

What streaming code gets wrong when it is written the way tutorials write it. Each row was seen on
such a service, and each is a test: it runs against a real server over a real socket, a generated
service passes it, and [the service of the tutorials](../tests/naive) fails it
([`test_naive.py`](../tests/test_naive.py) holds that). Tests are named with their file below the
`tests` folder of a generated project; a project has those of its modules.

`python tests/rows.py` writes this page, from `tests/traps.toml` and the marks of the tests.
"""

FAULTS_INTRODUCTION = """\
# Faults of the field

What an earlier version of this template got wrong with real clients. Faults that people report of
uploads, downloads and real-time streams were tried on a generated service; these are the ones that
it had. The tests of each run over a real socket, and fail on the last version that had the fault:
`make prove-faults` runs them on that version, and prints a table. Tests are named with their file
below the `tests` folder of a generated project; those of the template begin with `template:`.

`python tests/rows.py` writes this page, from `tests/faults.toml` and the marks of the tests.
"""


class Table:
    """The rows of one page, and the tests that are marked with their names."""

    def __init__(self, mark: str, introduction: str, before: str, *folders: Path) -> None:
        self.mark = mark
        self.page = REPOSITORY / "docs" / f"{mark}s.md"
        self._introduction = introduction
        self._before = before
        self._folders = folders

    @cached_property
    def entries(self) -> dict[str, dict[str, str]]:
        return tomllib.loads((TEMPLATE / f"{self.mark}s.toml").read_text("utf-8"))

    @property
    def rows(self) -> list[str]:
        """The names of the rows; a single letter names a group of them."""
        return [name for name in self.entries if name[1:]]

    def marked(self) -> dict[str, list[str]]:
        """Return the tests of each row, as `path::name`."""
        found: dict[str, list[str]] = defaultdict(list)
        for folder in self._folders:
            label = "template:" if folder == TEMPLATE else ""
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
        parts = [self._introduction]
        for name, entry in self.entries.items():
            if name in self.rows:
                parts += [f"### {name}: {entry['title']}", self._block(entry, tests.get(name, []))]
            else:
                parts += [f"## {entry['title']}", entry["about"]]
        return "\n\n".join(part.strip() for part in parts) + "\n"

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
        before = f"* {self._before}: {entry['naive']}"
        return "\n".join([before, f"* Here: {entry['ours']}", "* Tests:", *named])


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

if __name__ == "__main__":
    for table in (TRAPS, FAULTS):
        table.page.write_text(table.text(), "utf-8")
