"""Code of streams and events, by trap; `wrong` has the mistake, `right` nearly has it."""

CASES = {
    "U12": """
# wrong
import requests
session = requests.Session()

async def get():
    return session.get("http://x")
# wrong
@contextmanager
def opened():
    with open("x") as file:
        yield file

async def load():
    with opened() as file:
        return list(file)
# right
async def get():
    async with httpx.AsyncClient() as client:
        return await client.get("http://x")
# wrong
class Store:
    def load(self):
        return TARGET.read_bytes()

@app.get("/")
async def get(store: Annotated[Store, Depends(Store)]):
    return store.load()
# wrong
from time import sleep as pause

async def wait():
    pause(1)
# wrong
import requests as r

@app.get("/")
async def proxy():
    return r.get("http://x").text
# wrong
wait = time.sleep

async def work():
    wait(1)
# wrong
class View:
    def load(self):
        with sqlite3.connect("x") as connection:
            return connection.execute("")

    @router.get("/")
    async def get(self):
        return self.load()
# wrong
async def source():
    def lines():
        with open("x") as file:
            yield from file
    for line in lines():
        yield line
# wrong
async def run():
    return [subprocess.run(["ls"]) for _ in range(3)]
# right
async def wait():
    await asyncio.sleep(1)
    async with aiofiles.open("x") as file:
        return await file.read()
# right
async def work():
    await asyncio.to_thread(time.sleep, 1)
    await run_in_threadpool(lambda: open("x"))
    return await anyio.Path("x").read_text()
# right
def load():
    return open("x").read()

@app.get("/")
async def work():
    return await anyio.to_thread.run_sync(load)
# right
from .store import open, requests

async def work():
    requests.get("x")
    return open("x")
# right
@asynccontextmanager
async def lifespan(app):
    app.state.model = Path("model").read_bytes()
    yield
""",
    "D13": """
# wrong
def rows():
    try:
        for row in source():
            yield row
    except sqlite3.Error:
        logger.warning("failed")
# right
def rows():
    while True:
        try:
            with httpx.stream("GET", "http://x") as response:
                yield from response.iter_lines()
        except httpx.TransportError:
            pass
# wrong
async def rows():
    while True:
        try:
            row = await fetch()
        except Exception:
            logger.exception("failed")
            break
        yield row
# wrong
async def rows():
    try:
        async for row in source():
            yield row
    except Exception as error:
        logger.error(error)
# wrong
def rows():
    for row in source():
        try:
            yield convert(row)
        except (ValueError, Exception):
            yield "failed"
# wrong
from contextlib import suppress as ignore

async def rows():
    with ignore(Exception):
        async for row in source():
            yield row
# right
async def rows():
    try:
        async for row in source():
            yield row
    except Exception:
        logger.exception("failed")
        raise
# right
async def database():
    try:
        yield session
    except Exception:
        await session.rollback()
# right
async def rows():
    async for row in source():
        try:
            value = convert(row)
        except Exception:
            value = None
        yield value
""",
    "R1": """
# wrong
def frame(text):
    return f"event: text\\ndata: {text}\\n\\n"
# right
def tick():
    return "data: " + str(time.time()) + "\\n\\n"
# wrong
async def events():
    async for text in source():
        yield f"data: {text}\\n\\n"
# wrong
def frame(kind, value):
    return "event: " + kind + "\\n" + "data: " + value + "\\n\\n"
# wrong
def frame(text):
    return "data: {}\\n\\n".format(text).encode()
# wrong
def row(name):
    return '{"name": "%s"}\\n' % name
# right
from json import dumps as encode

async def events():
    async for value in source():
        text = encode(value)
        yield f"id: {len(text)}\\ndata: {text}\\n\\n"
# right
def show(value):
    return f"data: {value}"
# right
def frame(number: int):
    return f"data: {number}\\n\\n"
""",
    "R2": """
# right
async def events(source):
    async for text in source:
        yield f"data: {json.dumps(text)}\\n\\n"
# right
async def events(broker):
    async for message in broker.pubsub().listen():
        yield f"data: {json.dumps(message)}\\n\\n"
# wrong
async def events():
    for number in range(3):
        yield f"data: {number}\\n\\n"
# wrong
def events():
    for row in rows():
        yield ("data: " + json.dumps(row) + "\\n\\n").encode()
# right
async def events():
    while True:
        yield f"data: {json.dumps(await queue.get())}\\n\\n"
# right
async def events():
    for number in range(3):
        yield f"data: {number}\\n\\n"
    yield "event: end\\ndata:\\n\\n"
""",
    "R3": """
# right
async def events():
    async for number, text in source():
        yield frame(text, event_id=number)
    yield "event: end\\ndata:\\n\\n"
# wrong
async def events():
    while True:
        yield f"data: {await queue.get()}\\n\\n"
# wrong
def events():
    for row in rows():
        yield b"data: " + row + b"\\n\\n"
# right
async def events():
    while True:
        event = await queue.get()
        yield f"id: {event.id}\\ndata: {event.text}\\n\\n"
# right
async def chat():
    async for text in model():
        yield f"data: {json.dumps(text)}\\n\\n"
    yield "data: [DONE]\\n\\n"
""",
    "R5": """
# right
async def body(source):
    while True:
        try:
            async with asyncio.timeout(5):
                chunk = await anext(source)
        except TimeoutError:
            raise HTTPException(408) from None
        yield chunk
# wrong
async def events(source):
    while True:
        try:
            yield await asyncio.wait_for(anext(source), 15)
        except TimeoutError:
            yield ":"
# wrong
from asyncio import timeout as within

async def events(source):
    while True:
        try:
            async with within(15):
                item = await source.__anext__()
        except TimeoutError:
            item = ":"
        yield item
# right
async def first(source):
    return await asyncio.wait_for(anext(source), 15)
# right
async def events(queue):
    while True:
        yield await asyncio.wait_for(queue.get(), 15)
""",
    "R6": """
# wrong
async def events():
    async with asyncio.timeout(60):
        while True:
            yield await queue.get()
# wrong
from anyio import create_task_group as group

async def events():
    async with group() as tasks:
        tasks.start_soon(work)
        async for item in results:
            yield item
# right
async def events():
    while True:
        async with asyncio.timeout(60):
            item = await queue.get()
        yield item
# right
@asynccontextmanager
async def lifespan(app):
    async with anyio.create_task_group() as tasks:
        yield tasks
# right
async def rows():
    async with connect() as database:
        async for row in database.rows():
            yield row
""",
    "R8": """
# wrong
from dataclasses import dataclass, field

@dataclass
class Client:
    queue: asyncio.Queue = field(default_factory=asyncio.Queue)
# wrong
from asyncio import Queue as Q

def subscribe():
    queue: Q[str] = Q()
    queues.append(queue)
# wrong
class Client:
    def __init__(self):
        self.queue = asyncio.Queue[str](maxsize=0)
# wrong
async def subscribe():
    return anyio.create_memory_object_stream(math.inf)
# right
def subscribe():
    return asyncio.Queue(100)
# right
def subscribe():
    return queue.Queue(maxsize=100), anyio.create_memory_object_stream(10)
""",
    "R9": """
# wrong
from dataclasses import dataclass, field

@dataclass
class Hub:
    queues: list[asyncio.Queue] = field(default_factory=list)

    def subscribe(self):
        self.queues.append(queue := asyncio.Queue(10))
        return queue
# wrong
clients = []

@app.websocket("/ws")
async def serve(socket: WebSocket):
    await socket.accept()
    clients.append(socket)
# wrong
class Hub:
    def __init__(self):
        self.queues = collections.defaultdict(set)

    def subscribe(self, topic):
        queue = asyncio.Queue(10)
        self.queues[topic].add(queue)
        return queue
# wrong
sessions: dict[str, str] = {}

@app.get("/sessions/{name}")
async def begin(name: str):
    sessions[name] = ""
# right
clients = []

@app.websocket("/ws")
async def serve(socket: WebSocket):
    clients.append(socket)
    try:
        await talk(socket)
    finally:
        clients.remove(socket)
# right
KINDS = {}

def register(name):
    KINDS[name] = name
# right
latest = deque(maxlen=10)

@app.get("/names/{name}")
async def remember(name: str):
    latest.append(name)
# right
@app.get("/names/{name}")
async def remember(name: str):
    found = []
    found.append(name)
    return found
""",
    "R13": """
# wrong
async def events():
    try:
        async for text in source():
            yield f"data: {text}\\n\\n"
    except Exception as error:
        print(error)
# wrong
async def events():
    try:
        async for text in source():
            yield "data: " + text + "\\n\\n"
    except:
        yield "event: error\\ndata: failed\\n\\n"
# right
async def events():
    try:
        async for text in source():
            yield f"data: {text}\\n\\n"
    except ValueError:
        yield "event: error\\ndata: failed\\n\\n"
# right
async def events():
    try:
        async for text in source():
            yield f"data: {text}\\n\\n"
    except Exception:
        yield "event: error\\ndata: failed\\n\\n"
        raise
""",
}
