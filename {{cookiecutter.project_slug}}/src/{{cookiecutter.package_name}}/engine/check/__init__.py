"""`serve check [PATH…]`: find common mistakes of streaming code that a guard cannot correct.

It reads files, by default those of the service without the engine, and prints a line per finding:
`path:line: TRAP mistake; remedy`. The exit code is 1 if there are any. Uncertain cases are not
reported. A comment `# streaming: ok`, followed by a reason, excludes its line.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

from .rules import RULES, Files
from .source import Clients, Index, Source, text

ENGINE = Path(__file__).resolve().parents[1]
EXCLUDED = re.compile(r"#\s*streaming: ok\W+\w")


def main(arguments: list[str]) -> None:
    """Print the findings in files and folders, and end the process."""
    paths = [*map(Path, arguments)] or [ENGINE.parent]
    if missing := [str(path) for path in paths if not path.exists()]:
        sys.exit(f"serve check: not found: {', '.join(missing)}")
    found = [*findings(files(paths))]
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.exit(bool(found))


def files(paths: list[Path]) -> Iterator[Path]:
    """Yield the files of folders, without those of the engine if it is in one of them."""
    for path in paths:
        is_engine = path.resolve().is_relative_to(ENGINE)
        for each in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if is_engine or not each.resolve().is_relative_to(ENGINE):
                yield each


def findings(paths: Iterable[Path]) -> Iterator[str]:
    """Yield a line for each finding, in the order of the files and their lines."""
    sources: list[Source] = []
    index = Index(list)
    for path in paths:
        try:
            sources.append(Source(path, index))
        except SyntaxError as error:
            yield f"{path}:{error.lineno}: it cannot be parsed: {error.msg}"
    scopes = [scope for source in sources for scope in source.scopes]
    known = Files(scopes, Clients(scopes))
    found: dict[Path, set[tuple[int, str]]] = {source.path: set() for source in sources}
    for rule, scope in product(RULES, scopes):
        # Tests may block, and make errors intentionally.
        if rule.trap == "E11" or "import pytest" not in scope.source.code:
            for node in rule.find(known, scope):
                if isinstance(node, ast.stmt | ast.expr | ast.ExceptHandler):
                    finding = f"{rule.trap} {rule.wrong}; {rule.instead}".format(_called(node))
                    place = next(each for each in sources if node in each.parents)
                    found[place.path].add((node.lineno, finding))
    for source in sources:
        lines = source.code.splitlines()
        for line, finding in sorted(found[source.path]):
            if not EXCLUDED.search(lines[line - 1]):
                yield f"{source.path}:{line}: {finding}"


def _called(node: ast.AST) -> str:
    return text(node.func) if isinstance(node, ast.Call) else ""
