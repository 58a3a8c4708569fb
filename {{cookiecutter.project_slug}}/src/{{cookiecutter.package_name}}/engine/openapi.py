"""The OpenAPI documents of a service: 3.1 for client generators, 3.2 with the items of streams.

FastAPI and the engine's routes describe a stream by its items (`itemSchema`), and schemas of
pydantic contain their own `$defs`. Neither is valid in OpenAPI 3.1.

* `describe_errors`, `shorten_ids`: add the errors of every operation, and readable ids, to the
  document that FastAPI generates.
* `make_legal`: turns that document, or one of the owner, into valid OpenAPI 3.1.
* `with_item_schemas`: returns the OpenAPI 3.2 document.

Sources: OpenAPI Specification 3.1.0 and 3.2.0, section 4; JSON Schema 2020-12, section 8.2.
"""

import copy
import itertools
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from fastapi import FastAPI, Request, Response
from fastapi.datastructures import DefaultPlaceholder
from fastapi.responses import JSONResponse
from starlette.routing import Route, request_response

from .kernel.kernel import Kernel

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
#: The extension that marks a media type whose `schema` is that of one item of the stream.
ITEM = "x-item-schema"
COMPONENTS = "#/components/schemas/"
#: Members that contain schemas and values instead of further OpenAPI objects.
NOT_OBJECTS = ("schema", "itemSchema", "schemas", "example", "examples")
#: Keywords of JSON Schema that contain schemas by name, and those that contain other values.
SCHEMAS_BY_NAME = ("dependentSchemas", "patternProperties", "properties")
VALUES = ("const", "default", "enum", "example", "examples")
#: Media types of text and of JSON; all others are bytes.
TEXT = re.compile(r"text/|.*[/+](xml|javascript|yaml)\b")
JSON = re.compile(r".*[/+]json\b")

Document = dict[str, Any]
Names = dict[str, str]


class Documents:
    """The documents of one application, cached until FastAPI generates another one."""

    def __init__(self, app: FastAPI, kernel: Kernel) -> None:
        self._app = app
        self._kernel = kernel
        self._legal: Document | None = None
        self._newer: Document | None = None

    def complete(self, generated: Document) -> Document:
        """Add errors and readable ids to the document that FastAPI has generated; make it valid."""
        if generated is not self._legal:
            for describe in self._kernel.on_openapi:
                describe(generated)
            describe_errors(generated, self._kernel)
            if isinstance(self._app.router.generate_unique_id_function, DefaultPlaceholder):
                shorten_ids(generated)
        return self.legal(generated)

    def legal(self, document: Document) -> Document:
        """Make a document valid OpenAPI 3.1; an `openapi` function of the owner may return it."""
        if document is not self._legal:
            make_legal(document)
            self._legal, self._newer = document, None
        return document

    def install(self) -> None:
        """Serve both: at the `openapi_url` of FastAPI, and next to it as `…-3.2.json`."""
        app = self._app
        if not app.openapi_url:
            return

        async def older(request: Request) -> Response:
            return self._response(request, self.legal(app.openapi()))

        async def newer(request: Request) -> Response:
            document = self.legal(app.openapi())
            self._newer = self._newer or with_item_schemas(document)
            return self._response(request, self._newer)

        for route in app.routes:
            if isinstance(route, Route) and route.path == app.openapi_url:
                route.app = request_response(older)
        url = PurePosixPath(app.openapi_url)
        path = url.with_name(f"{url.stem}-3.2{url.suffix}")
        app.add_route(str(path), newer, include_in_schema=False)

    def _response(self, request: Request, document: Document) -> Response:
        # As in FastAPI: a prefix that a proxy has removed is the URL of a server.
        prefix = request.scope.get("root_path", "").rstrip("/")
        servers = document.get("servers", [])
        known = [server.get("url") for server in servers]
        if prefix and self._app.root_path_in_servers and prefix not in known:
            document = {**document, "servers": [{"url": prefix}, *servers]}
        return JSONResponse(document)


def describe_errors(document: Document, kernel: Kernel) -> None:
    """Add the errors of every operation, in the form that the kernel sends.

    `default` covers the statuses that an operation does not declare. An error that is declared with
    its own content stays as it is.
    """
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    name = kernel.error_schema["title"]
    if schemas.get(name, kernel.error_schema) != kernel.error_schema:  # A model of the owner.
        name = f"{name}Document"
    schemas[name] = copy.deepcopy(kernel.error_schema)
    content = {kernel.media_type: {"schema": {"$ref": COMPONENTS + name}}}
    for _, method, operation in _operations(document):
        responses = operation["responses"]
        responses.setdefault("default", {"description": "Any other error."})
        for status, response in responses.items():
            if "HTTPValidationError" in str(response.get("content")):
                response["description"] = "The request is not valid."
                del response["content"]
            if status >= "4" and method != "head":  # Also `4XX` and `default`.
                response.setdefault("content", content)
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)


def shorten_ids(document: Document) -> None:
    """Replace FastAPI's ids of operations, which end with path and method, by the routes' names.

    The first of several routes with the same name gets it. Ids of the owner are kept.
    """
    names = {}
    for path, method, operation in _operations(document):
        ending = re.sub(r"\W", "_", path) + f"_({'|'.join(METHODS)})"
        if found := re.fullmatch(f"(.+?){ending}", operation.get("operationId", "")):
            names[path, method] = found[1]
            del operation["operationId"]
    taken = {operation.get("operationId") for *_, operation in _operations(document)}
    for path, method, operation in _operations(document):
        if name := names.get((path, method)):
            # FastAPI gives all methods of one route the same id.
            long = re.sub(r"\W", "_", f"{name}{path}_{method}")
            choices = (name, f"{name}_{method}", long)
            operation["operationId"] = next((each for each in choices if each not in taken), long)
            taken.add(operation["operationId"])


def make_legal(document: Document) -> None:
    """Turn a document into valid OpenAPI 3.1 that client generators support, in place.

    * `itemSchema` becomes the `schema` of the media type; ITEM and the description report this.
    * `$defs` and objects with a title become components, and `$id` is removed.
    * Bytes become binary, and a media type without a schema gets one.
    * A link within the document refers to the operation by its id.
    """
    for each in _objects(document):
        _complete_content(each)
        for link in _map(each.get("links")).values():
            _name_operation(link, document)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for each in _objects(document):
        _move_parts(each.get("schema"), schemas, {})
    for schema in list(schemas.values()):
        _move_parts(schema, schemas, {}, is_component=True)


def with_item_schemas(document: Document) -> Document:
    """Return a copy of a valid document in OpenAPI 3.2, with `itemSchema`."""
    newer = copy.deepcopy(document)
    newer["openapi"] = "3.2.0"
    for each in _objects(newer):
        if each.pop(ITEM, False):
            each["itemSchema"] = each.pop("schema")
    return newer


def _operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Yield path, method and operation, also of webhooks."""
    for kind in ("paths", "webhooks"):
        for path, item in document.get(kind, {}).items():
            for method in METHODS:
                if method in item:
                    yield path, method, item[method]


def _objects(node: Any) -> Iterator[Document]:
    """Yield each object in a part of a document, except for schemas and examples."""
    if isinstance(node, list):
        for each in node:
            yield from _objects(each)
    elif isinstance(node, dict):
        yield node
        for name, value in list(node.items()):
            if name not in NOT_OBJECTS:
                yield from _objects(value)


def _map(value: Any) -> Document:
    return value if isinstance(value, dict) else {}


def _complete_content(owner: Document) -> None:
    """Add a schema to every media type of a body; for a stream it is that of one item."""
    streams = []
    for kind, media in _map(owner.get("content")).items():
        if "itemSchema" in media:
            media.setdefault("schema", media.pop("itemSchema"))
            media[ITEM] = True
            streams.append(kind)
        elif TEXT.match(kind):
            media.setdefault("schema", {"type": "string"})
        elif JSON.match(kind):
            media.setdefault("schema", {})
        elif media.get("schema") in (None, {"type": "string"}):
            media["schema"] = {"type": "string", "format": "binary"}
    if streams:
        description = f"{owner.get('description', 'A stream').rstrip('.')}."
        kinds = " and ".join(f"`{kind}`" for kind in streams)
        note = f"The schema of {kinds} is that of one item of the stream."
        owner["description"] = f"{description} {note}"


def _name_operation(link: Document, document: Document) -> None:
    reference = link.get("operationRef", "")
    if reference.startswith("#/paths/"):
        steps = unquote(reference).split("/")[2:]
        path, method = (step.replace("~1", "/").replace("~0", "~") for step in steps)
        name = document["paths"].get(path, {}).get(method, {}).get("operationId")
        if name:
            link["operationId"] = name
            del link["operationRef"]
        else:
            link["operationRef"] = quote(unquote(reference), safe="#/~:@!$&'()*+,;=")


def _move_parts(
    schema: Any, components: Document, names: Names, *, is_component: bool = False
) -> None:
    """Move `$defs`, and objects with a title and properties, from a schema to the components.

    `names` maps the `$defs` of the surrounding schemas to the names of their components.
    """
    if not isinstance(schema, dict):
        return
    schema.pop("$id", None)
    if definitions := schema.pop("$defs", None):
        names = names | _placed(definitions, components, names)
    _rename(schema, names)
    for each in _subschemas(schema):
        _move_parts(each, components, names)
    title = schema.get("title")
    if not is_component and "properties" in schema and isinstance(title, str):
        placed = _placed({title: dict(schema)}, components, names)
        schema.clear()
        schema["$ref"] = COMPONENTS + placed[title]


def _placed(definitions: Document, components: Document, outer: Names) -> Names:
    """Add schemas to the components, and return their names there.

    A component with the same name and content is used again. For other content the name gets a
    number.
    """
    clean = {name: re.sub(r"[^A-Za-z0-9._-]", "_", name) for name in definitions}
    names = dict(clean)
    for number in itertools.count(2):
        moved: Document = {}
        clashing = []
        for name, schema in copy.deepcopy(definitions).items():
            _move_parts(schema, components, outer | names, is_component=True)
            placed = names[name]
            if placed != clean[name] and "title" in schema:
                schema["title"] = placed  # Some generators name a class after it.
            if moved.setdefault(placed, components.get(placed, schema)) != schema:
                clashing.append(name)
        if not clashing:
            components.update(moved)
            break
        names |= {name: f"{clean[name]}{number}" for name in clashing}
    return names


def _rename(schema: Document, names: Names) -> None:
    """Point the references of a schema from `$defs` to components."""
    mapping = _map(_map(schema.get("discriminator")).get("mapping"))
    for holder, key in [(schema, "$ref"), *((mapping, value) for value in mapping)]:
        reference = holder.get(key)
        if isinstance(reference, str) and reference.startswith("#/$defs/"):
            name = unquote(reference.removeprefix("#/$defs/"))
            holder[key] = COMPONENTS + names.get(name, name)


def _subschemas(schema: Document) -> Iterator[Any]:
    for keyword, value in list(schema.items()):
        if keyword in SCHEMAS_BY_NAME:
            yield from _map(value).values()
        elif keyword not in VALUES:
            yield from value if isinstance(value, list) else [value]
