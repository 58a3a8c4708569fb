"""The traps, by row: what ordinary code does, what ours does, and the tests that show it.

`python tests/traps.py` writes docs/traps.md: from traps.toml, and from the marks of the tests.
"""

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
TESTS = REPOSITORY / "{{cookiecutter.project_slug}}" / "tests"
PAGE = REPOSITORY / "docs/traps.md"
TABLE: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text("utf-8")
)
ROWS = [name for name in TABLE if name[1:]]

INTRODUCTION = """\
# The traps

What streaming code gets wrong when it is written the way tutorials write it. Each row was seen on
such a service, and each is a test: it runs against a real server over a real socket, a generated
service passes it, and [the service of the tutorials](../tests/naive) fails it
([`test_naive.py`](../tests/test_naive.py) holds that). Tests are named with their file below the
`tests` folder of a generated project; a project has those of its modules.

`python tests/traps.py` writes this page, from `tests/traps.toml` and the marks of the tests.
"""


def marked() -> dict[str, list[str]]:
    """Return the tests of each row, as `path::name`."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        # What Jinja puts in is a name.
        source = re.sub(r"\{\{.*?\}\}", "package", path.read_text("utf-8"))
        for node in ast.walk(ast.parse(source, str(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for row in rows_of(node):
                    found[row].append(f"{path.relative_to(TESTS).as_posix()}::{node.name}")
    return dict(found)


def rows_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield the rows whose mark a test has, or one of its parameters."""
    for decorator in function.decorator_list:
        for node in ast.walk(decorator):
            match node:
                case ast.Call(func=ast.Attribute(attr="trap"), args=arguments):
                    yield from (str(ast.literal_eval(argument)) for argument in arguments)


def page() -> str:
    tests = marked()
    parts = [INTRODUCTION]
    for name, entry in TABLE.items():
        if name in ROWS:
            parts += [f"### {name}: {entry['title']}", block(entry, tests.get(name, []))]
        else:
            parts += [f"## {entry['title']}", entry["about"]]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def block(entry: dict[str, str], tests: list[str]) -> str:
    named = (f"  * `{name}` in `{path}`" for path, _, name in (t.partition("::") for t in tests))
    lines = [f"* Ordinary code: {entry['naive']}", f"* Here: {entry['ours']}", "* Tests:", *named]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
