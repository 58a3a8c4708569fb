"""The files that `serve check` reads: their functions and calls, and the text of clients."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef
Seen = frozenset[tuple["Scope", str]]
#: Functions of all files by `module.name`, and methods of classes by `module.Class`.
Index = defaultdict[str, list["Scope"]]

#: The decorators of path operations.
ROUTE = re.compile(r"[\w.]+\.(get|post|put|patch|delete|head|api_route|route|websocket\w*)\(.*")
#: Functions that call another one in a thread, and the position of that one.
THREADS = {"to_thread": 0, "run_sync": 0, "run_in_threadpool": 0, "in_thread": 1}
THREADS |= {"run_in_executor": 1, "partial": 0}
#: Methods of paths, and their modes.
MODES = {"read_bytes": "r", "read_text": "r", "write_bytes": "w", "write_text": "w"}
MODES |= {"unlink": "unlink"}
#: Functions whose result contains their arguments, and methods whose result contains their object.
PASSING = re.compile(
    r"(.*\.)?(str|list|sorted|enumerate|zip|\w*Path|join|joinpath|unquote|abspath|normpath)"
)
OF_OBJECT = re.compile(r"\w*strip|lower|decode|get|getlist|resolve|joinpath|absolute|with_\w+")
CHECK = re.compile(r"\.(is_relative_to|fullmatch|match|startswith|isalnum)\(|\bin\b|[!=]=")
NO_CHECK = re.compile(r"\.parents?\b|^len\(|[!=]= (''|None)$|^[\w.]+\.(exists|is_file)\(\)$")


class Call(NamedTuple):
    """A call, also one that runs in a thread: `to_thread(open, path)` calls `open`."""

    node: ast.Call
    func: ast.expr
    args: list[ast.expr]
    is_direct: bool

    @property
    def name(self) -> str:
        return text(self.func)

    @property
    def last(self) -> str:
        return self.name.rpartition(".")[2].partition("[")[0]

    def argument(self, position: int, name: str) -> ast.expr | None:
        named = [each.value for each in self.node.keywords if each.arg == name]
        return next(iter([*named, *self.args[position : position + 1]]), None)


class PathUse(NamedTuple):
    """A call that uses a file; `mode` is that of `open`, or `unlink`."""

    node: ast.Call
    path: ast.expr
    mode: str

    @property
    def writes(self) -> bool:
        return bool(re.fullmatch(r"[wax].*|r\S*\+\S*|.*\bO_(WRONLY|RDWR|CREAT)\b.*", self.mode))


class Source:
    """A parsed file, in which imported names are replaced by full names; raises SyntaxError."""

    def __init__(self, path: Path, index: Index) -> None:
        self.path, self.code, self.index = path, path.read_text("utf-8"), index
        self.module = path.parent.name if path.stem == "__init__" else path.stem
        tree = ast.parse(self.code, str(path))
        self.aliases: dict[str, ast.expr] = {}
        names: dict[str, str] = {}
        for node in ast.walk(tree):
            match node:
                case ast.Import(names=found):
                    short = {each.name.partition(".")[0] for each in found}
                    names |= dict(zip(short, short, strict=True))
                    names |= {each.asname: each.name for each in found if each.asname}
                case ast.ImportFrom(module=module, names=found, level=level):
                    prefix = "." * level + (module or "")
                    names |= {each.asname or each.name: f"{prefix}.{each.name}" for each in found}
        for node in tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute() as value):
                    first, _, rest = ast.unparse(value).partition(".")
                    if first in names and "(" not in rest:
                        names[name] = f"{names[first]}.{rest}"
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() as kind):
                    self.aliases[name] = kind
        self.parents: dict[ast.AST, ast.AST] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                node.id = names.get(node.id, node.id)
            self.parents |= dict.fromkeys(ast.iter_child_nodes(node), node)
        self.scopes: list[Scope] = []
        self._add(tree, None)

    def full(self, name: str) -> str:
        """Return the name of a module of any file, and a name in it."""
        return ".".join(f"{self.module}.{name}".split(".")[-2:])

    def named(self, name: str) -> list["Scope"]:
        """Return a function, or the methods of a class, of this file or of another one."""
        found = self.index[self.full(name)]
        ours = [each for each in found if each.source is self]
        is_clear = "." in name and len({each.source for each in found}) == 1
        return ours or (found if is_clear else [])

    def _add(self, node: ast.Module | Function, outer: "Scope | None") -> None:
        scope = Scope(self, node, outer)
        self.scopes.append(scope)
        if outer and outer.outer is None:
            self.index[self.full(scope.owner or scope.name)].append(scope)
        for each in own(node):
            if isinstance(each, Function):
                self._add(each, scope)


class Scope:
    """A function, or the code of a module outside of functions."""

    def __init__(self, source: Source, node: ast.Module | Function, outer: "Scope | None") -> None:
        self.source, self.node, self.outer = source, node, outer
        self.name = getattr(node, "name", "")
        around = source.parents.get(node)
        #: The class of a method.
        self.owner = around.name if isinstance(around, ast.ClassDef) else ""
        self.nodes = [each for each in own(node) if not isinstance(each, Function)]
        self.is_async = isinstance(node, ast.AsyncFunctionDef)
        self.decorators = [text(each) for each in getattr(node, "decorator_list", [])]
        #: The annotations of the parameters, with their defaults.
        self.parameters: dict[str, str] = {}
        if isinstance(node, Function):
            given = text(node.args).split(", ")
            for one in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
                default = next((each for each in given if each.startswith(f"{one.arg}:")), "")
                kind = text(one.annotation) if one.annotation else ""
                kind = text(source.aliases[kind]) if kind in source.aliases else kind
                self.parameters[one.arg] = f"{kind} {default}".strip()
        self.is_handler = any(map(ROUTE.fullmatch, self.decorators))
        self.yields = {each for each in self.nodes if isinstance(each, ast.Yield | ast.YieldFrom)}
        is_context = any("contextmanager" in each for each in self.decorators)
        looped = len(self.yields) > 1 or any(map(self.in_loop, self.yields))
        #: Whether it is a generator of items, not a dependency or a context manager.
        self.is_stream = looped and not is_context
        self.calls = [_call(each) for each in self.nodes if isinstance(each, ast.Call)]
        #: The values that names get by assignments, loops and `with`.
        self.values: dict[str, list[ast.expr]] = {}
        for target, value in _assignments(self.nodes):
            for each in ast.walk(target):
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                    self.values.setdefault(each.id, []).append(value)
        ends = ast.Return | ast.Yield
        found = [each.value for each in self.nodes if isinstance(each, ends) and each.value]
        self.results = [value for each in found for value in self.forms(each)]

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield the nodes around a node, up to the scope."""
        while (node := self.source.parents.get(node, self.node)) is not self.node:
            yield node

    def in_loop(self, node: ast.AST) -> bool:
        loops = ast.For | ast.AsyncFor | ast.While
        return any(isinstance(each, loops) for each in self.above(node))

    def around(self) -> Iterator["Scope"]:
        yield self
        if self.outer is not None:
            yield from self.outer.around()

    def values_of(self, name: str) -> list[ast.expr]:
        return next((each.values[name] for each in self.around() if name in each.values), [])

    def forms(self, node: ast.expr) -> list[ast.expr]:
        """Return an expression, and the values of it if it is a name."""
        return [node, *self.values_of(text(node))]

    def expanded(self, node: ast.expr) -> str:
        """Return the text of an expression, and of the values that its names can have."""
        waiting, seen = [node], set[str]()
        for each in waiting:
            names = {one.id for one in ast.walk(each) if isinstance(one, ast.Name)} - seen
            seen |= names
            waiting += chain(*map(self.values_of, sorted(names)))
        return "\n".join(map(text, waiting))

    def callee(self, func: ast.expr) -> "Scope | None":
        """Return the called function: by its name, or a method of a known class."""
        owner, _, name = text(func).rpartition(".")
        found, around = self.source.scopes, [*self.around()]
        if owner in ("self", "cls"):
            found = [each for each in found if each.owner]
        elif owner:
            kinds = [self.annotation(owner), *map(text, self.values_of(owner))]
            names = [text(func), *re.findall(r"[\w.]+", " ".join(kinds))]
            found = [*chain(*map(self.source.named, names))]
        else:
            found = [each for each in found if each.outer in around and not each.owner]
        return next((each for each in found if each.name == name), None)

    def reached(self, seen: set["Scope"]) -> set["Scope"]:
        """Return the scope, its inner functions, and those that it calls or passes.

        The use of a class reaches its special methods, because a `with` calls some of them.
        """
        if self not in seen:
            seen.add(self)
            used = [self.callee(each) for call in self.calls for each in (call.func, *call.args)]
            named = chain(*(self.source.named(call.name) for call in self.calls))
            used += [each for each in named if not each.owner or each.name.startswith("__")]
            for each in [*used, *(one for one in self.source.scopes if one.outer is self)]:
                if each is not None:
                    each.reached(seen)
        return seen

    def annotation(self, name: str) -> str:
        found = (each.parameters[name] for each in self.around() if name in each.parameters)
        return next(found, "")

    def path_uses(self) -> Iterator[PathUse]:
        for call in self.calls:
            mode = call.argument(1, "mode") or call.argument(1, "flags")
            given = text(mode).strip("'\"") if mode else "r"
            match call.func:
                case ast.Attribute(value=path, attr=attr) if attr in MODES:
                    yield PathUse(call.node, path, MODES[attr])
                case _ if re.fullmatch(r"((io|os|aiofiles|anyio)\.)?open(_file)?", call.name):
                    if call.args and self.callee(call.func) is None:
                        yield PathUse(call.node, call.args[0], given)
                case _ if call.last in ("remove", "FileResponse") and call.args:
                    mode_of = {"os.remove": "unlink"}.get(call.name, "r")
                    yield PathUse(call.node, call.args[0], mode_of)
                case ast.Attribute(value=path, attr="open"):
                    opened = call.argument(0, "mode")
                    given = text(opened).strip("'\"") if opened else ""
                    if re.fullmatch(r"[rwax][bt+]*", given):
                        yield PathUse(call.node, path, given)

    @cached_property
    def checked(self) -> set[str]:
        """The expressions that are compared with something before the function continues."""
        found: set[str] = set()
        for node in self.nodes:
            if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise | ast.Return):
                tests = (e for e in ast.walk(node.test) if isinstance(e, ast.Compare | ast.Call))
                for shown in map(text, tests):
                    if CHECK.search(shown) and not NO_CHECK.search(shown):
                        found.update(re.findall(r"[\w.]+", shown))
        return found | {name.rpartition(".")[0] for name in found}


class Clients:
    """Decides whether an expression contains unchecked text of a client."""

    def __init__(self, scopes: list[Scope]) -> None:
        #: Parameters that get such text from a caller.
        self.passed: set[tuple[Scope, str]] = set()
        #: Functions of any file that make a path of their parameters.
        self.makers: set[str] = set()
        for scope in scopes:
            self.passed = {(scope, name) for name in scope.parameters if name != "self"}
            if re.search(r"Path\(|join\(| / ", text(scope.node)) and scope.parameters:
                self.makers |= {scope.name for each in scope.results if self.has(scope, each)}
        self.passed, before = set(), None
        while before != self.passed:
            before = {*self.passed}
            for scope in scopes:
                for call in scope.calls:
                    if called := scope.callee(call.func):
                        names = [each for each in called.parameters if each != "self"]
                        given = [*zip(names, call.args, strict=False)]
                        given += [(each.arg or "", each.value) for each in call.node.keywords]
                        self.passed |= {(called, n) for n, value in given if self.has(scope, value)}

    def has(self, scope: Scope, node: ast.AST, seen: Seen = frozenset()) -> bool:
        def has(*nodes: ast.AST) -> bool:
            return any(self.has(scope, each, seen) for each in nodes)

        if any(text(node) in each.checked for each in scope.around()):
            return False
        match node:
            case ast.Name(id=name):
                return (scope, name) not in seen and self._name(scope, name, seen | {(scope, name)})
            case ast.Attribute(attr="filename"):
                return takes_files(scope)
            case ast.Attribute(attr="path_params" | "query_params" | "headers" | "cookies"):
                return True
            case ast.Call(func=func, args=args):
                name = text(func)
                last = name.rpartition(".")[2]
                passes = PASSING.fullmatch(name) or last in self.makers
                of_object = [func.value] if isinstance(func, ast.Attribute) else []
                is_kept = OF_OBJECT.fullmatch(last)
                return has(*(args if passes else []), *(of_object if is_kept else []))
            case ast.Await(value=value) | ast.Subscript(value=value):
                return has(value)
        parts = ast.BinOp | ast.JoinedStr | ast.BoolOp | ast.IfExp | ast.FormattedValue | ast.Tuple
        return isinstance(node, parts) and has(*ast.iter_child_nodes(node))

    def _name(self, scope: Scope, name: str, seen: Seen) -> bool:
        for each in scope.around():
            if name in each.values:
                return any(self.has(each, value, seen) for value in each.values[name])
            if name in each.parameters:
                kind = each.parameters[name]
                is_free = not re.search(r"pattern|regex|Literal|Depends", kind)
                in_route = not kind and "{" + name in str(each.decorators)
                is_text = in_route or re.search(r"\bstr\b", kind)
                return (each, name) in self.passed or bool(each.is_handler and is_text and is_free)
        return False


def takes_files(scope: Scope) -> bool:
    return "UploadFile" in scope.source.code or ".form()" in scope.source.code


@cache
def text(node: ast.AST) -> str:
    return ast.unparse(node)


def own(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a scope with its inner functions, but without the nodes of these."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Lambda):
            yield child
            if not isinstance(child, Function):
                yield from own(child)


def formatted(node: ast.AST) -> tuple[str, list[ast.expr]]:
    """Return the literal text of a formatted string, with `{}` for each of its values."""
    match node:
        case ast.JoinedStr(values=parts):
            found = [formatted(each) for each in parts]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            found = [formatted(left), formatted(right)]
        case ast.BinOp(left=ast.Constant() as left, op=ast.Mod(), right=right):
            values = right.elts if isinstance(right, ast.Tuple) else [right]
            return re.sub(r"%\w", "{}", formatted(left)[0]), values
        case ast.Call(func=ast.Attribute(value=value, attr="format"), args=args, keywords=named):
            return formatted(value)[0], [*args, *(each.value for each in named)]
        case ast.Call(func=ast.Attribute(value=value, attr="encode")):
            return formatted(value)
        case ast.FormattedValue(value=value):
            return "{}", [value]
        case ast.Constant(value=str() | bytes() as value):
            return value if isinstance(value, str) else value.decode("latin-1"), []
        case _:
            return "{}", [node] if isinstance(node, ast.expr) else []
    return "".join(part for part, _ in found), [each for _, values in found for each in values]


def _call(node: ast.Call) -> Call:
    position = THREADS.get(text(node.func).rpartition(".")[2], 99)
    if len(node.args) > position:
        return Call(node, node.args[position], node.args[position + 1 :], False)
    return Call(node, node.func, node.args, True)


def _assignments(nodes: list[ast.AST]) -> Iterator[tuple[ast.AST, ast.expr]]:
    for node in nodes:
        match node:
            case ast.Assign(targets=targets, value=value):
                yield from ((target, value) for target in targets)
            case (
                ast.AnnAssign(target=target, value=ast.expr() as value)
                | ast.NamedExpr(target=target, value=value)
                | ast.For(target=target, iter=value)
                | ast.AsyncFor(target=target, iter=value)
                | ast.comprehension(target=target, iter=value)
                | ast.withitem(context_expr=value, optional_vars=ast.expr() as target)
            ):
                yield target, value
