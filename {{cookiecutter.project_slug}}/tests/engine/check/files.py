"""Code that stores files, by trap; `wrong` has the mistake, `right` nearly has it."""

CASES = {
    "U1": """
# wrong
@app.post("/files")
async def upload(request: Request):
    with open(DATA / uuid4().hex, "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)

@app.post("/other")
async def other(request: Request):
    os.replace(PART, TARGET)
# right
@app.patch("/files/{key}")
async def append(request: Request, key: UUID):
    with open(DATA / key.hex, "ab") as file:
        async for chunk in request.stream():
            file.write(chunk)

@app.post("/files/{key}")
async def finish(key: UUID):
    os.replace(DATA / key.hex, TARGET)
# right
from .storage import publish

@app.post("/files")
async def upload(request: Request):
    with open(PART, "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
    publish(PART, TARGET)
# right
@app.post("/pictures")
async def convert(file: UploadFile):
    with tempfile.TemporaryDirectory() as folder:
        with open(Path(folder) / "picture", "wb") as out:
            out.write(await file.read(100))
# wrong
@app.put("/files")
async def upload(request: Request):
    data = await request.body()
    await asyncio.to_thread(TARGET.write_bytes, data)
# wrong
@app.post("/files")
async def upload(request: Request):
    with open(DATA / uuid4().hex, "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
# wrong
from aiofiles import open as begin

@app.post("/files")
async def upload(file: UploadFile):
    async with begin(TARGET, "wb") as out:
        while chunk := await file.read(65536):
            await out.write(chunk)
# wrong
def store(source, target: Path):
    with target.open("wb") as out:
        shutil.copyfileobj(source, out)

@app.post("/files")
async def upload(file: UploadFile):
    data = await file.read(100)
    await asyncio.to_thread(store, file.file, TARGET)
# right
@app.post("/files")
async def upload(request: Request):
    with open(PART, "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
    os.replace(PART, TARGET)
# right
@app.get("/report")
async def write_report(request: Request):
    with open(REPORT, "wb") as file:
        file.write(await report())
""",
    "U3": """
# wrong
@app.post("/files/{name}")
async def upload(request: Request, name: str):
    with open(f"data/{name}", "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
# wrong
class Upload(HTTPEndpoint):
    async def post(self, request):
        descriptor = os.open(TARGET, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        async for chunk in request.stream():
            os.write(descriptor, chunk)
# right
@app.post("/files")
async def upload(request: Request):
    target = DATA / uuid4().hex
    with open(target, "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
# right
@app.post("/files/{name}")
async def upload(request: Request, name: str):
    with open(f"data/{name}", "xb") as file:
        async for chunk in request.stream():
            file.write(chunk)
""",
    "U4": """
# right
class Part:
    def __exit__(self, *_):
        try:
            self.check()
        finally:
            PART.unlink()

@app.post("/files")
async def upload(request: Request):
    with Part():
        with open(PART, "wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
# right
@app.post("/files")
async def upload(request: Request, part: Annotated[Path, Depends(new_part)]):
    with open(part, "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
# wrong
@app.post("/files")
async def upload(request: Request):
    with open(PART, "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
    os.replace(PART, TARGET)
# wrong
@app.post("/files")
async def upload(file: UploadFile):
    try:
        TARGET.write_bytes(await file.read())
    except OSError:
        raise HTTPException(507) from None

@app.delete("/files")
async def delete():
    TARGET.unlink()
# right
@app.post("/files")
async def upload(request: Request):
    try:
        with open(PART, "wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
    except BaseException:
        PART.unlink()
        raise
# right
@app.post("/files")
async def upload(request: Request):
    with ExitStack() as stack:
        stack.callback(PART.unlink, missing_ok=True)
        with open(PART, "wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
""",
    "U5": """
# wrong
@app.post("/files")
async def upload(file: UploadFile):
    try:
        TARGET.write_bytes(await file.read())
    except OSError:
        logger.warning("failed")
    return {"stored": True}
# right
def fill_cache(data):
    try:
        CACHE.write_bytes(data)
    except OSError:
        logger.warning("failed")
# wrong
class Store:
    def save(self, data):
        with open(TARGET, "wb") as file:
            file.write(data)

store = Store()

def upload(data):
    try:
        store.save(data)
    except Exception as error:
        logger.error("failed %s", error)
    return {"stored": True}
# wrong
def store(data):
    try:
        with open(TARGET, "wb") as file:
            file.write(data)
    except Exception as error:
        print(error)
    return {"stored": True}
# wrong
import contextlib as c

def store(data):
    with c.suppress(Exception):
        TARGET.write_bytes(data)
# wrong
def store(source, target):
    try:
        shutil.copyfileobj(source, target)
    except:
        logger.exception("failed")
# right
def store(data):
    try:
        TARGET.write_bytes(data)
    except Exception:
        logger.exception("failed")
        raise
# right
def store(data):
    try:
        TARGET.write_bytes(data)
    except Exception:
        return False
    return True
# right
def load():
    try:
        return TARGET.read_bytes()
    except Exception as error:
        print(error)
""",
    "U6": """
# wrong
@app.post("/files")
async def upload(file: UploadFile):
    target = DATA / file.filename
    with target.open("wb") as out:
        out.write(await file.read(100))
# wrong
from os.path import join as under

@app.put("/files/{name:path}")
def put(name: str, body: Body):
    save(under("data", name), body)

def save(path, data):
    with open(path, mode="ab") as out:
        out.write(data)
# wrong
class Store:
    def path(self, name):
        return Path(self.root) / name

@router.delete("/files/{name}")
async def delete(name, store: StoreDep):
    store.path(name).unlink()
# wrong
@app.post("/files")
async def upload(request: Request):
    await run_in_threadpool(open, "data/" + request.headers["x-name"], "wb")
# wrong
@app.post("/files/{name}")
def put(name: str):
    path = ROOT / name
    if not path.resolve().is_relative_to(ROOT.parent):
        raise HTTPException(404)
    path.write_text("")
# right
@app.post("/files")
async def upload(file: UploadFile):
    (DATA / uuid4().hex).write_bytes(await file.read())
    return file.filename
# right
@app.put("/files/{file_id}")
def put(file_id: UUID):
    Path("data", str(file_id)).write_text("")
# right
@app.put("/files/{name}")
def put(name: Annotated[str, PathParameter(pattern="^[a-z]+$")]):
    Path("data", name).write_text("")
# right
@app.put("/files/{name}")
def put(name: str):
    target = (ROOT / name).resolve()
    if not target.is_relative_to(ROOT):
        raise HTTPException(404)
    target.write_text("")
# right
@app.put("/files/{name}")
def put(name: str):
    if name not in KNOWN:
        raise HTTPException(404)
    (ROOT / name).write_text("")
# right
@app.put("/files")
def put(file: UploadFile):
    (ROOT / Path(file.filename).name).write_text("")
""",
    "U10": """
# wrong
@app.put("/files")
async def put(request: Request):
    data = await request.body()
    TARGET.write_bytes(data)
# right
@app.post("/hooks")
async def hook(request: Request):
    return verify(await request.body())
# wrong
@app.post("/files")
async def upload(file: UploadFile):
    return len(await file.read())
# wrong
@app.post("/files")
async def upload(files: list[UploadFile]):
    return [len(await each.read()) for each in files]
# wrong
@app.post("/sums")
async def upload(request: Request):
    data = b""
    async for chunk in request.stream():
        data += chunk
# wrong
@app.post("/sums")
async def upload(incoming: Request):
    chunks = [chunk async for chunk in incoming.stream()]
# wrong
@app.get("/file")
def send():
    return StreamingResponse(iter([TARGET.read_bytes()]))
# right
@app.post("/files")
async def upload(file: UploadFile):
    while chunk := await file.read(65536):
        await use(chunk)
# right
@app.post("/sums")
async def upload(request: Request):
    body = RequestBody(request, limit=1000)
    return len(await body.read())
# right
@app.post("/sums")
async def upload(request: Request):
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
# right
STYLE = TARGET.read_bytes()
""",
    "U15": """
# wrong
@app.post("/files")
async def upload(request: Request):
    with open(PART, "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
    os.replace(PART, TARGET)
    return {"stored": True}
# wrong
@app.post("/files")
def upload(upload: UploadFile):
    with TARGET.open("xb") as file:
        shutil.copyfileobj(upload.file, file)
# right
@app.post("/files")
async def upload(request: Request):
    with open(PART, "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
# right
def write_cache(data):
    with open(CACHE, "wb") as file:
        file.write(data)
""",
    "U16": """
# right
names = {}

@app.post("/files")
async def upload(file: UploadFile):
    name = uuid4().hex
    names[name] = file.filename
    await save(await file.read())
# wrong
sizes = {}

@app.post("/uploads")
async def begin(request: Request):
    upload_id = uuid4().hex
    sizes[upload_id] = 0
    async for chunk in request.stream():
        await use(chunk)
# wrong
class Uploads:
    def __init__(self):
        self.lengths: dict[str, int] = {}

@app.put("/uploads/{name}")
async def begin(name: str, request: Request, uploads: UploadsDep):
    uploads.lengths[name] = 0
    await save(request)

async def save(request):
    async for chunk in request.stream():
        await use(chunk)
# right
sizes = {}

@app.post("/uploads")
async def begin(request: Request):
    upload_id = uuid4().hex
    sizes[upload_id] = 0
    try:
        async for chunk in request.stream():
            await use(chunk)
    finally:
        del sizes[upload_id]
# right
sizes = TTLCache(1000, 60)

@app.post("/uploads")
async def begin(request: Request):
    sizes[uuid4().hex] = 0
    async for chunk in request.stream():
        await use(chunk)
""",
}
