"""Code that sends files, by trap; `wrong` has the mistake, `right` nearly has it."""

CASES = {
    "D1": """
# wrong
@app.get("/files/{name:path}")
async def download(name: str):
    return FileResponse(f"data/{name}")
# wrong
from pathlib import Path as P

@app.get("/files/{name}")
def download(name: str = "x"):
    def chunks():
        with (P("data") / name).open("rb") as file:
            yield from file
    return StreamingResponse(chunks())
# wrong
@app.get("/file")
def download(request: Request):
    name = request.query_params.get("name")
    return Response(Path("data").joinpath(name).read_bytes())
# right
@app.get("/files/{name}")
async def download(name: Literal["a", "b"]):
    return FileResponse(f"data/{name}")
# right
@app.get("/files/{name}")
async def download(name: str, records: RecordsDep):
    return FileResponse(await records.path_of(name))
# right
def load(name: str):
    return open(f"data/{name}")
""",
    "D3": """
# wrong
def send(name):
    return Response(headers={"Content - Disposition": "attachment"})
# wrong
def send(response):
    response.headers["Content-Type "] = "text/plain"
# right
def send(name):
    return Response(headers={"Content-Disposition": "attachment"})
# right
LABEL = "Content and disposition - of files"
""",
    "D4": """
# right
import re

def send(name):
    safe = re.sub(r"[^a-z]", "_", name) or "file"
    return {"Content-Disposition": f'attachment; filename="{safe}"'}
# wrong
def send(name):
    return Response(headers={"Content-Disposition": f'attachment; filename="{name}"'})
# wrong
def send(response, name):
    response.headers["content-disposition"] = "attachment; filename=" + name
# wrong
def send(name):
    value = "attachment; filename={}".format(name)
    return Response(headers={"Content-Disposition": value})
# wrong
def send(name):
    return {"Content-Disposition": "inline; filename=%s" % name}
# right
from urllib.parse import quote as encoded

def send(name):
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{encoded(name)}"}
# right
def send(number: int):
    return {"Content-Disposition": f"attachment; filename=report-{number}.csv"}
# right
def send():
    return {"Content-Disposition": 'attachment; filename="report.csv"'}
""",
    "D5": """
# wrong
@app.get("/video")
def send():
    def chunks():
        with open("video.mp4", "rb") as file:
            yield from file
    body = chunks()
    return StreamingResponse(body)
# right
@app.get("/secret")
def send():
    def chunks():
        with open("secret", "rb") as file:
            for part in file:
                yield decrypt(part)
    return StreamingResponse(chunks())
# wrong
@app.get("/video")
def send():
    def chunks():
        with open("video.mp4", "rb") as file:
            yield from file
    return StreamingResponse(chunks())
# wrong
from fastapi.responses import StreamingResponse as Stream

async def parts(path):
    async with aiofiles.open(path, "rb") as file:
        while part := await file.read(1000):
            yield part

@app.get("/video")
async def send():
    return Stream(parts(VIDEO))
# wrong
def headers(start, end, size):
    return {"Content-Range": f"bytes {start}-{end}/{size}"}
# right
@app.get("/video")
def send():
    return FileResponse("video.mp4")
# right
@app.get("/log")
def send():
    def lines():
        with open("log.txt") as file:
            for line in file:
                if "x" in line:
                    yield line
    return StreamingResponse(lines())
""",
    "D6": """
# wrong
def send():
    return StreamingResponse(open("file", "rb"))
# wrong
def send():
    file = TARGET.open("rb")
    return StreamingResponse(file, media_type="text/plain")
# right
def send():
    return StreamingResponse(chunks(TARGET))
# right
def send():
    with open("file", "rb") as file:
        data = file.read()
    return StreamingResponse(iter(data))
""",
}
