"""Tables of known mistakes, the behaviour of a generated service, and the tests for each of them.

`python tests/rows.py` writes docs/traps.md, docs/faults.md and docs/bounds.md from traps.toml,
faults.toml and bounds.toml, and from the marks of the tests.
"""

import ast
import re
import textwrap
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PROJECT = REPOSITORY / "{{cookiecutter.project_slug}}" / "tests" / "engine"
TEMPLATE = REPOSITORY / "tests"
#: The columns of the table of bounds, after the title.
COLUMNS = ("setting", "default", "metric", "problem")
#: The effect of a generated service on a trap in plain FastAPI code.
PLAIN = {
    "gone": "The service avoids it.",
    "flagged": "`serve check` reports it.",
    "class": "It needs a class of the engine.",
}

TRAPS_INTRODUCTION = """\
# Traps

This page lists common mistakes in streaming code that is written like tutorials. Each mistake was
observed in such a service, and has tests, which run against a real server over a real socket. A
generated service passes them, and [a service written like the tutorials](../tests/naive) fails them
([`test_naive.py`](../tests/test_naive.py) checks this). Tests are listed with their file in
`tests/engine` of a project that was generated with `engine_tests=yes`; a project contains only the
tests of its modules.

The column `plain` is the effect of a generated service on the mistake, if the routes of that
service are added to it as they are, without the engine's classes and parts.

* `gone`: the service avoids it. Every test of the row passes, except for those that require more
than such code offers; the row gives the reason.

* `flagged`: the code contains it, and `serve check` reports it. In
[variants](../tests/naive/variants) of these mistakes, by an author who did not know the rules, it
reports 138 of 168 places, and no correct code; comments with the word `missed` name the rest.

* `class`: only a class of the engine avoids it.

`test_naive.py` runs all tests of this page on [that service](../tests/naive/guarded), and fails if
the results differ from the column.

`python tests/rows.py` writes this page from `tests/traps.toml` and the marks of the tests.
"""

FAULTS_INTRODUCTION = """\
# Field faults

Faults that users have reported for uploads, downloads and real-time streams were tried on a service
that an earlier version of this template had generated. This page lists those that the service had.
The tests of each fault run over a real socket, and fail on the last version with the fault. `make
prove-faults` shows this: it runs the tests of the last version before 0.2.0 on that version, and
those of the rows G18 to G43 on 0.3.0, and prints a table. Tests are listed with their file in
`tests/engine` of a generated project; those of the template begin with `template:`.

`python tests/rows.py` writes this page from `tests/faults.toml` and the marks of the tests.
"""

BOUNDS_INTRODUCTION = """\
# Bounds

The work that one client can cause is bounded: per turn of the event loop, per request, per
connection, per client, and in total. Each bound has a default above the needs of well-behaved
clients, and many can be set. The table lists the metric that shows that a bound was reached, and
the [problem](../{{cookiecutter.project_slug}}/docs/problems.md) that a rejected request gets. The
tests of each bound run over a real socket. If a bound has an entry "Before", its tests fail on the
last version without the bound; `make prove-faults` shows this for the bounds that were added before
0.2.0. Tests are listed with their file in `tests/engine` of a generated project; those of the
template begin with `template:`.

`make bench-hostile` measures the response time for other clients while one connection, or twenty,
attack the service, and `make bench-single` the cost of the most expensive single requests.

`python tests/rows.py` writes this page from `tests/bounds.toml` and the marks of the tests.
"""


class Table:
    """The rows of one page, and the tests that are marked with their names."""

    def __init__(
        self,
        mark: str,
        introduction: str,
        before: str,
        *folders: Path,
        home: Path = TEMPLATE,
        columns: tuple[str, ...] = (),
    ) -> None:
        """`folders` contain the tests, `home` the rows; `columns` are those after the title."""
        self.mark = mark
        self._columns = columns
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
        """The names of the rows; single characters are groups."""
        return [name for name in self.entries if name[1:]]

    def marked(self, mark: str = "") -> dict[str, list[str]]:
        """Return the tests of each row, as `path::name`; `mark` is another one with its names."""
        found: dict[str, list[str]] = defaultdict(list)
        for folder in self._folders:
            label = "template:" if folder == self._home else ""
            for path in sorted(folder.rglob("test_*.py")):
                # Jinja inserts a name.
                source = re.sub(r"\{\{ *cookiecutter.*?\}\}", "package", path.read_text("utf-8"))
                tree = ast.parse(source, str(path))
                for node in ast.walk(tree):
                    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                        name = f"{label}{path.relative_to(folder).as_posix()}::{node.name}"
                        rows = self._rows_of(node, tables_of(tree), mark or self.mark)
                        for row in dict.fromkeys(rows):
                            found[row].append(name)
        return dict(found)

    def text(self) -> str:
        """Return the current text of the page."""
        tests, plain = self.marked(), self.marked("plain")
        parts = [*map(_filled, self._introduction.split("\n\n")), self._overview()]
        for name, entry in self.entries.items():
            if name in self.rows:
                parts += [f"### {name}: {entry['title']}", self._block(entry, tests.get(name, []))]
                if "plain" in entry and name in plain:
                    parts[-1] += "\n" + _listed("Tests with plain code", plain[name])
            else:
                parts += [f"## {entry['title']}", _filled(entry["about"])]
        return "\n\n".join(part.strip() for part in parts if part) + "\n"

    def _overview(self) -> str:
        """Return a table of the rows, if they have columns."""
        if not self._columns:
            return ""
        lines = [f"| {self.mark} | {' | '.join(self._columns)} |"]
        lines.append(f"|---|{'---|' * len(self._columns)}")
        for name, row in {name: self.entries[name] for name in self.rows}.items():
            cells = [f"{name}: {row['title']}", *(row[column] for column in self._columns)]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def _rows_of(
        self,
        function: ast.FunctionDef | ast.AsyncFunctionDef,
        tables: dict[str, ast.AST],
        mark: str,
    ) -> Iterator[str]:
        """Yield the rows that the marks of a test or of its parameters name."""
        waiting: list[ast.AST] = [*function.decorator_list]
        while waiting:
            for node in ast.walk(waiting.pop()):
                match node:
                    case ast.Call(func=ast.Attribute(attr=name), args=arguments) if name == mark:
                        yield from (str(ast.literal_eval(argument)) for argument in arguments)
                    case ast.Name(id=name) if name in tables:
                        waiting.append(tables.pop(name))

    def _block(self, entry: dict[str, str], tests: list[str]) -> str:
        before = [_filled(f"* {self._before}: {entry['naive']}")] if "naive" in entry else []
        ours = [_filled(f"* Here: {entry['ours']}")]
        if "plain" in entry:
            text = " ".join([PLAIN[entry["plain"]], entry.get("why", "")]).strip()
            ours.append(_filled(f"* Plain code here: {text}"))
        return "\n".join([*before, *ours, _listed("Tests", tests)])


def _listed(title: str, tests: list[str]) -> str:
    places = (test.partition("::") for test in tests)
    return "\n".join([f"* {title}:", *(f"  * `{name}` in `{path}`" for path, _, name in places)])


def _filled(text: str) -> str:
    """Wrap a paragraph or an item of a list."""
    indent = "  " if text.startswith("* ") else ""
    return textwrap.fill(
        text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def tables_of(tree: ast.Module) -> dict[str, ast.AST]:
    """Return the values that a module assigns to names, such as tables of test parameters."""
    assigned = (node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign))
    found: dict[str, ast.AST] = {}
    for node in assigned:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        found |= {
            each.id: node.value for each in targets if isinstance(each, ast.Name) and node.value
        }
    return found


TRAPS = Table("trap", TRAPS_INTRODUCTION, "Ordinary code", PROJECT, columns=("plain",))
FAULTS = Table("fault", FAULTS_INTRODUCTION, "Before", PROJECT, TEMPLATE)
BOUNDS = Table("bound", BOUNDS_INTRODUCTION, "Before", PROJECT, TEMPLATE, columns=COLUMNS)
TABLES = (TRAPS, FAULTS, BOUNDS)

if __name__ == "__main__":
    for table in TABLES:
        table.page.write_text(table.text(), "utf-8")
