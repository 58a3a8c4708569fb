"""Code of errors, logs and tests, by trap; `wrong` has the mistake, `right` nearly has it."""

CASES = {
    "E5": """
# wrong
from http import HTTPStatus

def refuse():
    return JSONResponse({"error": "no"}, HTTPStatus.NOT_FOUND)
# right
from http import HTTPStatus

def create():
    return JSONResponse({}, HTTPStatus.CREATED)
# wrong
def refuse():
    return JSONResponse({"error": "no"}, status_code=400)
# wrong
from fastapi import status as s
from starlette.responses import PlainTextResponse as Text

def refuse():
    return Text("no", s.HTTP_404_NOT_FOUND)
# right
def refuse():
    raise HTTPException(400, "no")
# right
def create():
    return JSONResponse({"code": 400}, status_code=201)
""",
    "E7": """
# wrong
@app.get("/rows")
async def rows():
    response = StreamingResponse(source())
    response.headers["x-rows"] = "1"
    return response
# wrong
@app.get("/rows")
async def rows():
    return StreamingResponse(source())
# wrong
from starlette.responses import FileResponse as F

@router.api_route("/x", methods=["GET"])
def send() -> F:
    return found()
# right
@app.get("/rows", response_class=StreamingResponse)
async def rows() -> StreamingResponse:
    return StreamingResponse(source())
# right
def rows():
    return StreamingResponse(source())
""",
    "E8": """
# wrong
async def log(request: Request, call_next):
    logger.info("request %s", request.url)
# wrong
def log(scope):
    print(scope["path"], scope["query_string"])
# wrong
import logging

def log(request):
    logging.getLogger("x").warning("%s", dict(request.query_params))
# right
async def log(request: Request):
    logger.info("request %s", request.url.path)
# right
def read(request):
    return parse(request.query_params, request.url)
""",
    "E11": """
# wrong
@pytest.fixture
def client():
    with TestClient(app) as found:
        yield found

def test_events(client):
    with client.stream("GET", "/events") as response:
        assert next(response.iter_lines())
# wrong
from fastapi.testclient import TestClient

def test_events():
    with TestClient(app) as client, client.stream("GET", "/events") as response:
        assert next(response.iter_lines())
# right
from fastapi.testclient import TestClient

def test_health():
    assert TestClient(app).get("/health").status_code == 200
# wrong
import httpx as web

def client(app):
    return web.AsyncClient(transport=web.ASGITransport(app))
# wrong
from httpx import ASGITransport as Direct

client = AsyncClient(transport=Direct(app))
# right
client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=2))
# right
from .tools import ASGITransport

client = AsyncClient(transport=ASGITransport(app))
""",
    "E12": """
# wrong
@app.exception_handler(OSError)
async def report(request: Request, failure: OSError):
    body = {"detail": "failed: %s" % failure}
    return JSONResponse(body, 500)
# wrong
async def work():
    try:
        await client.get("/")
    except httpx.HTTPError as error:
        raise HTTPException(502, "failed: {}".format(error))
# wrong
async def chat(socket: WebSocket):
    try:
        await talk(socket)
    except Exception as error:
        await socket.close(1011, reason=str(error))
# right
def convert(error: ValueError):
    return HTTPException(422, str(error))
# right
def work():
    try:
        step()
    except ValueError as error:
        raise HTTPException(422, str(error))
    except Exception as error:
        raise HTTPException(500) from error
# wrong
def work():
    try:
        step()
    except Exception as error:
        raise HTTPException(500, str(error))
# wrong
@app.exception_handler(Exception)
async def report(request: Request, failure: Exception):
    return JSONResponse({"detail": f"failed: {failure}"}, 500)
# wrong
def work():
    try:
        step()
    except BaseException as error:
        return PlainTextResponse(repr(error), 500)
# right
def work():
    try:
        step()
    except ValueError as error:
        raise HTTPException(422, str(error))
# right
def work():
    try:
        step()
    except Exception as error:
        logger.error(str(error))
        raise Problem(500)
""",
}
