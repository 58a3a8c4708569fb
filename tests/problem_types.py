"""Print the problem types of a service as JSON: `python problem_types.py PACKAGE`.

The keys are names of types, the values title, meaning, and the statuses with which it is raised.
"""

import ast
import json
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType


def raised(module: ModuleType) -> list[tuple[str, int]]:
    """Return the names of the types that a module raises, with their statuses."""
    tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name("Problem"), args=[ast.Constant(int(status)), *_]):
                kinds = [each.value for each in node.keywords if each.arg == "type"]
                # A type that a caller passes on is raised by others, too.
                names = [kind.id for kind in kinds if isinstance(kind, ast.Name)]
                found += [(vars(module)[name].name, status) for name in names]
    return found


if __name__ == "__main__":
    package = import_module(sys.argv[1])
    names = [each.name for each in walk_packages(package.__path__, f"{package.__name__}.")]
    modules = [import_module(name) for name in names if not name.endswith("__main__")]
    statuses: dict[str, set[int]] = {}
    for module in modules:
        for kind, status in raised(module):
            statuses.setdefault(kind, set()).add(status)
    application = import_module(f"{package.__name__}.app").create_app()
    types = application.state.kernel.problem_types.values()
    listed = {kind.name: (*kind[1:], sorted(statuses.get(kind.name, ()))) for kind in types}
    json.dump(listed, sys.stdout)
