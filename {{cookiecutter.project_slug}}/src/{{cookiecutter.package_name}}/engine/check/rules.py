"""The rules of `serve check`: functions that find mistakes, and the table of their texts."""

import ast
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from itertools import chain
from typing import NamedTuple

from .source import Call, Clients, Scope, formatted, takes_files, text

BLOCKING = re.compile(
    r"((io|os)\.)?open|time\.sleep|os\.(p?read|p?write|sendfile|system|f(data)?sync|replace|rename)"
    r"|(requests|httpx)\.(get|post|put|patch|delete|head|request|stream)"
    r"|urllib\.request\.(urlopen|urlretrieve)"
    r"|subprocess\.(run|call|check_call|check_output)|socket\.create_connection"
    r"|shutil\.(copy\w*|move|rmtree|make_archive|unpack_archive)|hashlib\.file_digest"
    r"|(sqlite3|psycopg2?|pymysql)\.connect|zipfile\.ZipFile|(tarfile|gzip|bz2|lzma)\.open"
    r"|.*\.((read|write)_(bytes|text)|mkdir)"
    r"|(httpx2?\.Client|requests\.[Ss]ession|redis\.(Redis|from_url)|boto3\.client)\(.*\)"
    r"\.(?!close|pubsub|pipeline)\w+",
    re.DOTALL,
)
SCOPES = r"\b(CancelScope|(create_task_group|fail_after|move_on_after|timeout(_at)?|TaskGroup)\()"
RENAME = r"\bos\.(replace|link|rename)\b|\bshutil\.move\b|\.(rename|hardlink_to)\b"
RENAME += r"|\.replace\([^,]*\)"
LOG = r"(print|.*[lL]og\w*(\(.*\))?\.(debug|info|warning|error|exception|critical|log))"
QUIET = re.compile(rf"pass|continue|({LOG}|traceback\.print_exc)\(.*\)", re.DOTALL)
RESPONSE = r"([\w.]+\.)?(HTML|JSON|ORJSON|PlainText)?Response"
DUMPS = r"(.*\.)?(dumps|dump_json|model_dump_json|b64encode|quote|quote_plus|int|float|len|uuid4"
DUMPS += r"|time|monotonic|isoformat)"
FIELDS = {"content-disposition", "content-length", "content-range", "content-type"}
EMPTY = r"(\{\}|\[\]|(set|dict|list)\(\)|[\w.]*defaultdict\(\w*\)"
EMPTY += r"|[\w.]*field\(default_factory=(set|dict|list)\))$"
HTTP_ERROR = re.compile(
    r"([\w.]+\.HTTP_)?[45]\d\d\w*"
    rf"|([\w.]+\.)?({'|'.join(each.name for each in HTTPStatus if each >= 400)})(\.value)?"
)

ANY = "(Base)?Exception"
#: Failures of files and of other services.
FAILURES = rf"{ANY}|OSError|(httpx2?|requests|aiohttp|sqlite3)\.\w*(Error|Exception)"
TIMEOUT = rf"{ANY}|(asyncio\.)?TimeoutError"
LEAVING = ast.Raise | ast.Return | ast.Break

Found = Iterator[ast.AST]


class Files(NamedTuple):
    """The functions of all files."""

    scopes: list[Scope]
    clients: Clients


def calls_of(pattern: str, condition: Callable[[Scope, Call], object]) -> "Find":
    """Return a rule for calls whose text matches a pattern, if they meet a condition."""
    compiled = re.compile(pattern, re.DOTALL)

    def find(_: Files, scope: Scope) -> Found:
        for call in scope.calls:
            if compiled.fullmatch(text(call.node)) and condition(scope, call):
                yield call.node

    return find


def blocking(_: Files, scope: Scope) -> Found:
    at_start = scope.name in ("lifespan", "startup") or "on_event" in str(scope.decorators)
    for call in scope.calls if scope.is_async and not at_start else []:
        if blocks(scope, call, ()):
            yield call.node


def blocks(scope: Scope, call: Call, callers: tuple[Scope, ...]) -> bool:
    """Return whether a call waits for a disk, a network or a clock, also through functions."""
    around = [*scope.above(call.node)][:2]
    awaiting = ast.Await | ast.AsyncFor | ast.AsyncWith
    if not call.is_direct or any(isinstance(each, awaiting) for each in around):
        return False
    called = scope.callee(call.func)
    if called is None:
        is_open = call.last == "open" and any(use.node is call.node for use in scope.path_uses())
        names = [call.name]
        if isinstance(call.func, ast.Attribute):
            names += [f"{text(each)}.{call.last}" for each in scope.forms(call.func.value)]
        return is_open or any(map(BLOCKING.fullmatch, names))
    runs = not called.yields or any(isinstance(each, ast.For | ast.withitem) for each in around[:1])
    inner = called.calls if runs and not called.is_async and called not in callers else []
    return any(blocks(called, each, (*callers, called)) for each in inner)


def paths(writes: bool) -> "Find":
    def find(files: Files, scope: Scope) -> Found:
        for use in scope.path_uses():
            is_write = use.writes or use.mode == "unlink"
            if is_write is writes and files.clients.has(scope, use.path):
                yield use.node

    return find


def body_writes(without: str, *, truncating: bool = False) -> "Find":
    """Return a rule for files that a body is written to, if the code does not match `without`."""

    def find(_: Files, scope: Scope) -> Found:
        reached = scope.reached(set()) if reads_body(scope) else set()
        code = "\n".join(text(each.node) for each in reached)
        for one, use in ((each, use) for each in reached for use in each.path_uses()):
            path = one.expanded(use.path)
            is_new = re.search(r"uuid\d|token_|te?mp", path)
            is_kept = truncating and (is_new or not re.search("w|TRUNC", use.mode))
            is_part = PART.search(path)
            # Later requests may complete the file.
            is_later = (is_part and without == RENAME) or re.match("[ar]", use.mode)
            whole = text(scope.source.scopes[0].node) if is_part else ""
            is_other = "Depends" in one.annotation(text(use.path)) or TEMPORARY.search(path)
            is_safe = is_kept or is_other or re.search(without, code + whole, re.DOTALL)
            if use.writes and not is_safe and not is_later:
                yield use.node

    return find


def reads_body(scope: Scope) -> bool:
    return scope.outer is not None and any(
        (call.last in ("stream", "body") and is_request(scope, call)) or reads_file(scope, call)
        for call in scope.calls
    )


def is_request(scope: Scope, call: Call) -> bool:
    name = call.name.rpartition(".")[0]
    return name.endswith("request") or "Request" in scope.annotation(name)


def reads_file(scope: Scope, call: Call) -> bool:
    """Return whether a call reads an `UploadFile`, or gets its file."""
    given = " ".join(map(text, [call.func, *call.args]))
    found = re.search(r"^(\w+)(\.file)?\.read(?!\S)|(?<!\S)(\w+)\.file(?!\S)", given)
    if found is None or not takes_files(scope):
        return False
    item = found[1] or found[3]
    loops = (node.target for node in scope.nodes if isinstance(node, ast.For | ast.comprehension))
    is_item = any(re.search(rf"\b{item}\b", text(target)) for target in loops)
    is_file = found[2] or call.last == "copyfileobj" or "UploadFile" in scope.annotation(item)
    return is_item or bool(is_file)


def in_memory(_: Files, scope: Scope) -> Found:
    for call in scope.calls:
        around = [text(each) for each in scope.above(call.node) if isinstance(each, ast.expr)]
        is_sent = any(re.match(r"[\w.]*Response\(|\(?yield", each) for each in around)
        whole = call.last == "read" and not call.args and reads_file(scope, call)
        if call.last == "body" and is_request(scope, call):
            uses = [use.writes for each in scope.reached(set()) for use in each.path_uses()]
            whole = any(uses) or bool(scope.yields)
        if whole or (is_sent and call.last in ("getvalue", "read_bytes")):
            yield call.node
    for node in scope.nodes:
        if isinstance(node, ast.AsyncFor | ast.comprehension) and isinstance(node.iter, ast.Call):
            name = text(node.target)
            adding = rf"\.(append|extend)\({name}\)|\+= {name}\b"
            collects = isinstance(node, ast.comprehension) or re.search(adding, text(node))
            call = Call(node.iter, node.iter.func, [], True)
            if collects and call.last == "stream" and is_request(scope, call):
                yield node.iter


def hidden(
    scope: Scope, failures: str
) -> Iterator[tuple[ast.ExceptHandler | ast.With, set[ast.AST], bool]]:
    """Yield the places that hide all failures of a block, and whether they do nothing else."""
    for node in scope.nodes:
        if isinstance(node, ast.Try | ast.With):
            block = {one for each in node.body for one in ast.walk(each)}
        if isinstance(node, ast.Try):
            for handler in node.handlers:
                body = [*map(text, handler.body)]
                if catches(handler, failures) and "raise" not in "\n".join(body):
                    yield handler, block, all(map(QUIET.fullmatch, body))
        elif isinstance(node, ast.With):
            ignored = re.search(rf"\bsuppress\((.* )?({failures})[,)]", text(node.items[0]))
            yield from [(node, block, True)] if ignored else []


def false_success(_: Files, scope: Scope) -> Found:
    writes = {use.node for use in scope.path_uses() if use.writes}
    for call in scope.calls:
        called = scope.callee(call.func)
        inner = [use.writes for use in called.path_uses()] if called else []
        if call.last in ("copyfileobj", "write") or any(inner):
            writes.add(call.node)
    for place, block, is_quiet in hidden(scope, FAILURES if reads_body(scope) else ANY):
        if is_quiet and writes & block and not scope.yields:
            yield place


def is_events(scope: Scope) -> bool:
    return any(re.search(r"^data:", formatted(each)[0], re.MULTILINE) for each in scope.nodes)


def incomplete(events: bool) -> "Find":
    def find(_: Files, scope: Scope) -> Found:
        for failures in (ANY, FAILURES) if scope.is_stream else ():
            for place, block, _quiet in hidden(scope, failures):
                ends = isinstance(place.body[-1], ast.Break | ast.Return)
                # A source that is opened again loses nothing.
                is_again = scope.in_loop(place) and failures == FAILURES
                is_lost = ends or (scope.yields & block and not is_again)
                if is_lost and is_events(scope) is events:
                    yield place

    return find


def events_without(pattern: str, *, ending: bool = False) -> "Find":
    """Return a rule for generators of events, without a text; `ending`: those that end."""

    def find(_: Files, scope: Scope) -> Found:
        if scope.is_stream and is_events(scope) and not re.search(pattern, text(scope.node)):
            loops = [each for each in scope.nodes if isinstance(each, ast.While | ast.AsyncFor)]
            loops = [each for each in loops if scope.yields & {*ast.walk(each)}]
            endless = [
                isinstance(e, ast.While) or ENDLESS.search(scope.expanded(e.iter)) for e in loops
            ]
            if not (ending and any(endless)):
                yield scope.node

    return find


def held(_: Files, scope: Scope) -> Found:
    for node in scope.nodes if scope.is_stream else []:
        if isinstance(node, ast.With | ast.AsyncWith) and scope.yields & {*ast.walk(node)}:
            opened = " ".join(text(item.context_expr) for item in node.items)
            yield from [node] if re.search(SCOPES, opened) else []


def cancelling(scope: Scope, call: Call) -> bool:
    """Return whether a timeout cancels the call of `anext`, in a loop that continues after it."""
    around = [*scope.above(call.node)]
    scopes = (each for each in around if isinstance(each, ast.With | ast.AsyncWith))
    timed = [each for each in scopes if re.search(SCOPES, text(each.items[0]))]
    waited = [each for each in around if text(each).startswith("asyncio.wait_for(")]
    handlers = (each for each in scope.nodes if isinstance(each, ast.ExceptHandler))
    leaving = [isinstance(e.body[-1], LEAVING) for e in handlers if catches(e, TIMEOUT)]
    continues = not all(leaving) or any("move_on_after" in text(each.items[0]) for each in timed)
    return continues and any(scope.in_loop(each) for each in [*timed, *waited])


def catches(handler: ast.ExceptHandler, failures: str) -> bool:
    caught = text(handler.type) if handler.type else "Exception"
    return bool(re.search(rf"(?<![\w.])({failures})(?![\w.])", caught))


def strings(scope: Scope) -> Iterator[tuple[ast.AST, str, list[ast.expr]]]:
    """Yield the formatted strings, without those that are a part of another."""
    for node in scope.nodes:
        parent = scope.source.parents.get(node)
        if not isinstance(parent, ast.BinOp | ast.FormattedValue | ast.Attribute):
            literal, values = formatted(node)
            if values and literal != "{}":
                yield node, literal, values


def unsafe(pattern: str) -> "Find":
    """Return a rule for formatted strings that match a pattern and have unencoded values."""

    def find(_: Files, scope: Scope) -> Found:
        for node, literal, values in strings(scope):
            if re.search(pattern, literal) and not all(is_encoded(scope, one) for one in values):
                yield node

    return find


def is_encoded(scope: Scope, node: ast.AST) -> bool:
    parts: list[ast.expr] = []
    match node:
        case ast.Name(id=name):
            if re.match(r"(int|float|UUID|uuid\.UUID)\b", scope.annotation(name)):
                return True
            parts = scope.values_of(name)
        case ast.IfExp(body=body, orelse=orelse):
            parts = [body, orelse]
        case ast.BoolOp(values=values):
            parts = values
        case ast.Call(func=ast.Attribute(value=value, attr="decode" | "encode")):
            parts = [value]
        case ast.Call(func=ast.Name(id="str"), args=[value]):
            parts = [value]
        case ast.Call(func=func):
            is_replaced = text(node).startswith("re.sub('[^")
            return is_replaced or bool(re.fullmatch(DUMPS, text(func)))
        case ast.Constant():
            return True
    return bool(parts) and all(is_encoded(scope, each) for each in parts)


def growing(uploads: bool) -> "Find":
    """Return a rule for state of clients in containers from which nothing is removed."""

    def find(files: Files, scope: Scope) -> Found:
        for node in scope.nodes if scope.outer else []:
            match node:
                case ast.Call(func=ast.Attribute(value=target, attr=attr), args=[key, *_]):
                    is_added = attr in ("add", "append", "setdefault")
                case ast.Subscript(value=target, slice=key):
                    is_added = isinstance(node.ctx, ast.Store)
                case _:
                    continue
            whole = target.value if isinstance(target, ast.Subscript) else target
            is_local = any(text(whole) in each.values for each in scope.around() if each.outer)
            if is_added and not is_local and is_client(scope, key):
                name = text(whole).rpartition(".")[2]
                used = [each for each in files.scopes if name in text(each.node) and each.outer]
                read = any(reads_body(one) for each in used for one in each.reached(set()))
                # The name of a stored file is not the state of an upload.
                added = text(getattr(scope.source.parents[node], "value", key))
                is_upload = read and not re.match(r"\w+\.(filename|content_type)\b", added)
                if (is_upload if uploads else not read) and only_grows(files, name):
                    yield node

    return find


def is_client(scope: Scope, key: ast.expr) -> bool:
    kind = f"{scope.annotation(text(key))} {scope.expanded(key)}"
    is_kept = re.search(r"\b(Queue|WebSocket|asyncio\.Event|uuid4)\b", kind)
    return bool(is_kept) or (scope.is_handler and text(key) in scope.parameters)


def only_grows(files: Files, name: str) -> bool:
    code = "\n".join(text(each.node) for each in files.scopes if each.outer is None)
    made = rf"\b{name}(: [^=\n]+)? = " + EMPTY
    removed = rf"\b{name}(\[[^\n]*?\])?\.(pop\w*|remove|discard|clear)\(|del [^\n]*\b{name}\["
    return bool(re.search(made, code, re.MULTILINE)) and not re.search(removed, code)


def streamed_files(_: Files, scope: Scope) -> Found:
    for call in scope.calls:
        given = call.args[:1] if call.last == "StreamingResponse" else []
        for source in (form for each in given for form in scope.forms(each)):
            inner = scope.callee(source.func) if isinstance(source, ast.Call) else None
            is_raw = inner and any(RAW.search(text(each)) for each in inner.yields)
            sent = [*inner.path_uses()] if inner and is_raw else []
            if any("b" in use.mode and not use.writes for use in sent):
                yield call.node
    yield from (node for node, literal, _ in strings(scope) if literal.startswith("bytes {}-{}/"))


def unclosed(_: Files, scope: Scope) -> Found:
    for call in scope.calls:
        if call.last == "StreamingResponse" and call.args:
            for value in scope.forms(call.args[0]):
                is_entered = isinstance(scope.source.parents[value], ast.withitem)
                if not is_entered and any(use.node is value for use in scope.path_uses()):
                    yield value


def misspelt(_: Files, scope: Scope) -> Found:
    for node in scope.nodes:
        literal = str(node.value) if isinstance(node, ast.Constant) else ""
        name = literal.rstrip(" :") if ":" in literal else literal
        if " " in name and re.sub("[ -]+", "-", name.strip()).lower() in FIELDS:
            yield node


def is_error(_: Scope, call: Call) -> bool:
    status = call.argument(1, "status_code")
    return status is not None and bool(HTTP_ERROR.fullmatch(text(status)))


def undocumented(_: Files, scope: Scope) -> Found:
    returns = getattr(scope.node, "returns", None)
    shown = map(text, [*scope.results, *([returns] if returns else [])])
    described = re.search("response_class=|responses=|include_in_schema=", str(scope.decorators))
    streams = any(re.match(r"[\w.]+\.(Streaming|File)Response\b", each) for each in shown)
    if scope.is_handler and streams and not described:
        yield scope.node


def in_process(scope: Scope, call: Call) -> bool:
    owner = call.name.rpartition(".")[0]
    fixtures = [each.results for each in scope.source.scopes if each.name == owner]
    shown = [scope.expanded(call.func), scope.annotation(owner), *map(text, chain(*fixtures))]
    return call.last != "stream" or "TestClient" in " ".join(shown)


def shows_exception(scope: Scope, call: Call) -> bool:
    kinds = {name: kind.split(" ")[0] for name, kind in scope.parameters.items()}
    is_report = "Request" in " ".join(kinds.values())
    named = [name for name, kind in kinds.items() if kind in BUILT_IN and is_report]
    for node in scope.above(call.node):
        if isinstance(node, ast.ExceptHandler) and node.name:
            named += [node.name] if catches(node, FAILURES) else []
    values = [*call.node.args, *(each.value for each in call.node.keywords)]
    shown = " ".join(map(scope.expanded, values))
    return bool(named) and bool(re.search(SHOWN.replace("NAMES", "|".join(named)), shown))


Find = Callable[[Files, Scope], Found]


class Rule(NamedTuple):
    """A mistake: the row of the template's `docs/traps.md`, how it is found, and its remedy."""

    trap: str
    find: Find
    wrong: str
    instead: str


NO_SIZE = r"asyncio\.(Lifo|Priority)?Queue(\[.*\])?\((maxsize=)?0?\)"
NO_SIZE += r"|.*(default_factory=|defaultdict\()asyncio\.(Lifo|Priority)?Queue\)"
NO_SIZE += r"|anyio\.create_memory_object_stream(\[.*\])?\(.*(math\.inf|float\('inf'\))\)"
STORE = "write to a temporary file of the same folder, and rename it with `os.replace`"
RUN = "or use `Events` or a `RunRouter` of the engine"
AGAIN = "raise the exception again"
REMOVE = r"(unlink|remove|discard|delete)\("
CLEANUP = rf"(except|finally)\b[^\n]*:\n((?!\n\n|def ).)*?{REMOVE}|callback\("
END = r"\[DONE\]|event: ?\w*(end|done|close|complete|finish|stop)"
ROWS = r"(?ms)^(data|event|id): ?\{\}.*\n|\A\s*\{\s*\"\w+\": ?\"?\{\}.*\n"
QUERIES = r"\(.*\b(query_string|query_params|(request|socket|ws)\.url\b(?!\.path)).*\)"
PART = re.compile(r"(?i)(?<![a-z])(part|te?mp|chunk|spool|stag(e|ing)|incoming|pending)")

SHOWING = rf"({RESPONSE}|.*HTTPException|.*Problem|.*\.close)\(.*\)"
RAW = re.compile(r"^\(yield (from )?\w+\)$|\.read\(")
TEMPORARY = re.compile("Temporary|mkdtemp")
ENDLESS = re.compile(r"listen|subscri|watch|follow|tail|\*args|\A\w+\Z")
BUILT_IN = {e.__name__ for e in Exception.__subclasses__()} | {"OSError", "Exception", "KeyError"}
SHOWN = r"\b(str|repr|format)\([^()]*\b(NAMES)\)|\{(NAMES)(!\w)?\}|% (NAMES)\b(?!\.)"
SHOWN += r"|format_exc\("
IN_PROCESS = r"[^()]*\.stream\(.*|httpx2?\.(ASGITransport\(|(Async)?Client\(.*\bapp=).*"

RULES = [
    Rule("U1", body_writes(RENAME),
         "a body is written to its final path, so half of it is visible", STORE),
    Rule("U3", body_writes(RENAME, truncating=True),
         "the previous version is lost before the body has arrived", STORE),
    Rule("U4", body_writes(CLEANUP),
         "the fragment of a failed upload remains", "delete it in an `except` or a `finally`"),
    Rule("U5", false_success, "a failed write is reported as a success", AGAIN),
    Rule("U6", paths(writes=True),
         "the path contains text of a client, such as `../x`", "use a generated id"),
    Rule("U10", in_memory, "a whole file is held in memory",
         "use chunks: `read(65536)`, `RequestBody`, `ByteStream`"),
    Rule("U12", blocking, "`{}` blocks the event loop, and all clients",
         "use `await in_thread(None, function, …)`"),
    Rule("U15", body_writes(r"\bf(data)?sync\b"),
         "a success is sent before the file is durable", "call `os.fsync`"),
    Rule("U16", growing(uploads=True),
         "the state of abandoned uploads is never removed", "let it expire"),
    Rule("D1", paths(writes=False),
         "the path contains text of a client, such as `../x`", "use a generated id"),
    Rule("D3", misspelt, "the name of a header contains a space", "write it without spaces"),
    Rule("D4", unsafe(r"^(?!.*form-data).*filename\*?="),
         "a name can break the header", "use `FileResponse(path, filename=name)`"),
    Rule("D5", streamed_files,
         "a file is sent without ranges", "use `FileResponse`, or the part `Downloads`"),
    Rule("D6", unclosed,
         "the file stays open after a disconnect", "open it with `with` in a generator"),
    Rule("D13", incomplete(events=False), "a failed stream looks complete", AGAIN),
    Rule("R1", unsafe(ROWS),
         "a line break in a value forges an event or a row", "encode it with `json.dumps`"),
    Rule("R2", events_without(END, ending=True),
         "browsers reopen a stream that ends", f"send `event: end`, {RUN}"),
    Rule("R3", events_without(r"\[DONE\]|\bid:|id="),
         "clients that reconnect miss events", f"send `id:`, {RUN}"),
    Rule("R5", calls_of(r"(anext|.*\.__anext__)\(.*\)", cancelling),
         "the timeout cancels the source", "wait for a task with `asyncio.wait`"),
    Rule("R6", held,
         "a timeout or task group is held across a `yield`", "close it before the `yield`"),
    Rule("R8", calls_of(NO_SIZE, lambda scope, call: scope.outer or call.last != "Queue"),
         "the queue grows without a limit", f"set a size, {RUN}"),
    Rule("R9", growing(uploads=False),
         "a disconnected client is never removed", "remove it in a `finally`"),
    Rule("R13", incomplete(events=True), "a failed event stream looks complete", AGAIN),
    Rule("E5", calls_of(RESPONSE + r"\(.*\)", is_error),
         "the error has a format of its own", 'raise `Problem(status, "A sentence.")`'),
    Rule("E7", undocumented,
         "OpenAPI describes the stream as JSON", "set `response_class=` in the decorator"),
    Rule("E8", calls_of(LOG + QUERIES, lambda *_: True),
         "the log contains the secrets of queries", "log `request.url.path`"),
    Rule("E11", calls_of(IN_PROCESS, in_process),
         "this client detects no failure of a stream", "use `LiveServer`"),
    Rule("E12", calls_of(SHOWING, shows_exception),
         "clients get the text of an exception", "log it, and raise `Problem(500)`"),
]  # fmt: skip
