"""The OpenAPI documents describe the service correctly, and are valid."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response, StreamingResponse
from fastapi.routing import APIRoute
from fastapi.utils import generate_unique_id
from pydantic import BaseModel, Field

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.service import Service as Application
from {{cookiecutter.package_name}}.engine.testing import LiveServer

from .service import Service, make_settings, resolved

DOCUMENT = create_app(make_settings()).openapi()
PATHS = DOCUMENT["paths"]
STREAMS = ("application/jsonl", "application/x-ndjson", "text/event-stream")
METHODS = ("GET", "PUT", "PATCH", "DELETE")


class RowError(BaseModel):
    pointer: str


class Circle(BaseModel):
    kind: Literal["circle"]


class Square(BaseModel):
    kind: Literal["square"]


class Row(BaseModel):
    errors: list[RowError] = []
    parts: "list[Row]" = []
    shape: Annotated[Circle | Square, Field(discriminator="kind")]


def row_with(name: str) -> dict[str, Any]:
    """Return the schema of a row whose errors are of another kind, with a member of this name."""
    error = {"type": "object", "title": "RowError", "properties": {name: {"type": "string"}}}
    items = {"type": "array", "items": {"$ref": "#/$defs/RowError"}}
    return {"$defs": {"RowError": error}, "type": "object", "properties": {"errors": items}}


def body_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


router = APIRouter(prefix="/owner")


@router.get("/rows")
async def follow() -> AsyncIterator[Row]:
    yield Row(shape=Circle(kind="circle"))


@router.post("/rows", openapi_extra=body_of({"$id": "/rows", **Row.model_json_schema()}))
async def add() -> None: ...


@router.post("/a", openapi_extra=body_of(row_with("code")))
@router.post("/b", openapi_extra=body_of(row_with("code")))
@router.post("/c", openapi_extra=body_of(row_with("number")))
async def other() -> None: ...


@router.get("/image", responses={200: {"content": {"image/png": {}, "text/csv": {}}}})
async def image() -> Response:
    return StreamingResponse([])


def members_of(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield every member of every object in a document."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    yield from node.items() if isinstance(node, dict) else ()
    for child in children:
        yield from members_of(child)


def ids_of(document: dict[str, Any]) -> list[str]:
    operations = [each for path in document["paths"].values() for each in path.values()]
    return [operation["operationId"] for operation in operations]


def owner_s_document() -> dict[str, Any]:
    app = create_app(make_settings())
    app.include_router(router)
    return app.openapi()


@pytest.mark.fault("G33")
def test_no_two_paths_differ_in_the_names_of_their_parameters_alone() -> None:
    shapes = [re.sub(r"{.*?}", "*", path) for path in PATHS]
    assert sorted(shapes) == sorted(set(shapes))


@pytest.mark.parametrize("path", PATHS)
async def test_a_path_allows_what_is_documented_and_nothing_else(
    service: Service, path: str
) -> None:
    async with service.client() as client:
        answer = await client.options(re.sub(r"{.*?}", "a", path))
    allowed = {each.lower() for each in answer.headers["allow"].split(", ")}
    assert allowed - {"head", "options"} == PATHS[path].keys() - {"head", "options"}


@pytest.mark.fault("G33")
async def test_the_schema_of_a_stream_is_that_of_one_item_and_3_2_says_so(serve: Any) -> None:
    service: Service = await serve(router)
    async with service.client() as client:
        document = (await client.get("/openapi.json")).json()
        newer = (await client.get("/openapi-3.2.json")).json()

    assert (document["openapi"], newer["openapi"]) == ("3.1.0", "3.2.0")
    streams = [media for kind, media in members_of(document["paths"]) if kind in STREAMS]
    newer_streams = [media for kind, media in members_of(newer["paths"]) if kind in STREAMS]
    assert all(media.keys() == {"schema", "x-item-schema"} for media in streams)
    assert newer_streams == [{"itemSchema": media["schema"]} for media in streams]
    assert "itemSchema" not in dict(members_of(document))
    answer = document["paths"]["/owner/rows"]["get"]["responses"]["200"]
    assert "`application/jsonl` is that of one item" in answer["description"]
    row = resolved(document, answer["content"]["application/jsonl"]["schema"])
    assert row["properties"].keys() == {"errors", "parts", "shape"}


@pytest.mark.fault("G33")
@pytest.mark.parametrize("document", [DOCUMENT, owner_s_document()], ids=["all", "owner's"])
def test_every_reference_leads_to_a_component(document: dict[str, Any]) -> None:
    components = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    found = list(members_of(document))
    mapped = [mapping for name, mapping in found if name == "mapping"]

    assert {value for name, value in found if name == "$ref"} <= components
    assert {each for mapping in mapped for each in mapping.values()} <= components
    assert not {"$defs", "$id"} & dict(found).keys()


def test_components_of_one_name_that_differ_keep_apart() -> None:
    document = owner_s_document()

    errors = []
    for path in ("/owner/rows", "/owner/a", "/owner/b", "/owner/c"):
        media = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        schema = resolved(document, media["schema"])
        errors.append(schema["properties"]["errors"]["items"]["$ref"].rpartition("/")[2])
    members = [[*document["components"]["schemas"][name]["properties"]] for name in errors]
    assert members == [["pointer"], ["code"], ["code"], ["number"]]
    assert errors[0] == "RowError"
    assert errors[1] == errors[2]


def test_bytes_are_binary_and_every_media_type_has_a_schema() -> None:
    document = owner_s_document()

    content = document["paths"]["/owner/image"]["get"]["responses"]["200"]["content"]
    assert content["image/png"] == {"schema": {"type": "string", "format": "binary"}}
    assert content["text/csv"] == {"schema": {"type": "string"}}
    contents = [content for name, content in members_of(document["paths"]) if name == "content"]
    assert all("schema" in media for content in contents for media in content.values())


@pytest.mark.fault("G33")
def test_the_id_of_an_operation_is_the_name_of_its_function() -> None:
    document = owner_s_document()

    ids = ids_of(document)
    assert {"live", "ready", "follow", "add", "other"} < set(ids)
    assert len(ids) == len(set(ids))
    assert max(map(len, ids_of(DOCUMENT))) <= 20


def test_operations_of_one_name_have_ids_of_their_own() -> None:
    app = create_app(make_settings())

    @app.get("/again")
    async def live() -> None: ...

    app.api_route("/many/{name}", methods=[*METHODS], name="use")(live)
    app.get("/given", operation_id="ready")(live)

    with pytest.warns(UserWarning, match="Duplicate Operation ID"):
        ids = ids_of(app.openapi())
    assert len(ids) == len(set(ids))
    assert {"live", "live_get", "use", "ready", "ready_get"} < set(ids)


def test_a_link_names_its_operation() -> None:
    app = create_app(make_settings())
    links = {
        "known": {"operationRef": "#/paths/~1linked~1{name}/get"},
        "unknown": {"operationRef": "#/paths/~1missing~1{name}/get"},
        "elsewhere": {"operationRef": "https://example.com/openapi.json#/paths/~1a/get"},
    }

    @app.get("/linked/{name}", responses={200: {"links": links}})
    async def linked(name: str) -> None: ...

    found = app.openapi()["paths"]["/linked/{name}"]["get"]["responses"]["200"]["links"]
    assert found["known"] == {"operationId": "linked"}
    assert found["unknown"] == {"operationRef": "#/paths/~1missing~1%7Bname%7D/get"}
    assert found["elsewhere"] == links["elsewhere"]


async def test_an_owner_s_own_document_is_served_and_legal() -> None:
    app = create_app(make_settings())
    app.include_router(router)

    def openapi() -> dict[str, Any]:
        return get_openapi(title="Mine", version="7", routes=app.routes)

    app.openapi = openapi  # type: ignore[method-assign]  # As FastAPI documents.
    async with LiveServer(app) as live, live.client() as client:
        document = (await client.get("/openapi.json")).json()
        newer = (await client.get("/openapi-3.2.json")).json()

    assert document["info"] == newer["info"] == {"title": "Mine", "version": "7"}
    assert not {"$defs", "$id", "itemSchema"} & dict(members_of(document)).keys()
    assert "itemSchema" in dict(members_of(newer))


def test_an_owner_s_ids_are_kept() -> None:
    def id_of(route: APIRoute) -> str:
        return f"{route.name}_of_mine"

    app = Application(make_settings(), generate_unique_id_function=id_of)
    by_router = create_app(make_settings())
    of_router = APIRouter(generate_unique_id_function=id_of)
    of_router.get("/mine")(follow)
    by_router.include_router(of_router)

    long = Application(make_settings(), generate_unique_id_function=generate_unique_id)

    assert {"live_of_mine", "ready_of_mine"} <= set(ids_of(app.openapi()))
    assert "live_health_live_get" in ids_of(long.openapi())
    assert {"follow_of_mine", "live"} < set(ids_of(by_router.openapi()))


@pytest.mark.parametrize(
    ("url", "newer"), [("/api.v1/schema", "/api.v1/schema-3.2"), (None, "/openapi-3.2.json")]
)
async def test_the_documents_are_where_the_owner_wants_them(url: str | None, newer: str) -> None:
    app = Application(make_settings(), openapi_url=url)
    async with LiveServer(app) as live, live.client() as client:
        answers = [await client.get(path) for path in (url or "/openapi.json", newer)]

    statuses = [answer.status_code for answer in answers]
    assert statuses == ([200, 200] if url else [404, 404])


async def test_the_prefix_that_a_proxy_removes_is_a_server() -> None:
    app = Application(make_settings(), servers=[{"url": "https://a.example"}])
    async with LiveServer(app, root_path="/api") as live, live.client() as client:
        responses = [await client.get(f"/openapi{each}.json") for each in ("", "-3.2")]

    urls = [[each["url"] for each in response.json()["servers"]] for response in responses]
    assert urls == [["/api", "https://a.example"]] * 2


def test_routes_that_come_later_are_in_the_document() -> None:
    app = create_app(make_settings())
    before = app.openapi()
    app.include_router(router)

    assert "/owner/rows" not in before["paths"]
    assert "/owner/rows" in app.openapi()["paths"]
    assert isinstance(app, FastAPI)
    assert app.openapi() is app.openapi()
