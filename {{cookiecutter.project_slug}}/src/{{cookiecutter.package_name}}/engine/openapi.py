"""The OpenAPI documents of a service: 3.1 for generators of clients, 3.2 with the items of streams.

FastAPI and the engine's routes describe a stream by its items (`itemSchema`), and schemas of
pydantic bring their own `$defs`. Neither is legal in OpenAPI 3.1.

* `describe_errors`, `shorten_ids`: the errors of every operation, and its id, as FastAPI generates
  neither.
* `make_legal`: a document of 3.1 from what FastAPI generates, whoever has asked it to.
* `with_item_schemas`: the document of 3.2.

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
#: Extension of a media type whose `schema` is that of one item of the stream.
ITEM = "x-item-schema"
COMPONENTS = "#/components/schemas/"
#: Members below which there is no further object of OpenAPI, but schemas and values.
NOT_OBJECTS = ("schema", "itemSchema", "schemas", "example", "examples")
#: Keywords of JSON Schema that hold one schema, a list of them, and schemas by name.
SCHEMA_IN = (
    "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not",
    "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
SCHEMAS_IN = ("allOf", "anyOf", "oneOf", "prefixItems")
SCHEMAS_BY_NAME = ("dependentSchemas", "patternProperties", "properties")
#: Media types that are text and JSON; the others are bytes.
TEXT = re.compile(r"text/|.*[/+](xml|javascript|yaml)\b")
JSON = re.compile(r".*[/+]json\b")

Document = dict[str, Any]
Names = dict[str, str]


class Documents:
    """The documents of one application; each is made once, until FastAPI generates another."""

    def __init__(self, app: FastAPI, kernel: Kernel) -> None:
        self._app = app
        self._kernel = kernel
        self._complete: Document | None = None
        self._legal: Document | None = None
        self._older: Document | None = None
        self._newer: Document = {}

    def complete(self, generated: Document) -> Document:
        """Return what FastAPI has generated, with errors and readable ids, and legal."""
        if generated is not self._complete:
            describe_errors(generated, self._kernel)
            # An owner's function for ids is kept, whether of the application or of a router.
            if isinstance(self._app.router.generate_unique_id_function, DefaultPlaceholder):
                shorten_ids(generated)
            self._complete = self.legal(generated)
        return generated

    def legal(self, document: Document) -> Document:
        """Return a document of 3.1; it may be the owner's, whose `openapi` replaces FastAPI's."""
        if document is not self._legal:
            make_legal(document)
            self._legal = document
        return document

    def newer(self, document: Document) -> Document:
        """Return the same as a document of 3.2."""
        if document is not self._older:
            self._older, self._newer = document, with_item_schemas(document)
        return self._newer

    def install(self) -> None:
        """Serve both: at the URL that FastAPI was given, and beside it as `…-3.2.json`."""
        app = self._app
        if not app.openapi_url:
            return

        async def document(request: Request) -> Response:
            return self._response(request, self.legal(app.openapi()))

        async def newer_document(request: Request) -> Response:
            return self._response(request, self.newer(self.legal(app.openapi())))

        for route in app.routes:
            if isinstance(route, Route) and route.path == app.openapi_url:
                route.app = request_response(document)
        url = PurePosixPath(app.openapi_url)
        newer = url.with_name(f"{url.stem}-3.2{url.suffix}")
        app.add_route(str(newer), newer_document, include_in_schema=False)

    def _response(self, request: Request, document: Document) -> Response:
        # As FastAPI's own: a prefix that a proxy has removed is an address of the service.
        prefix = request.scope.get("root_path", "").rstrip("/")
        servers = document.get("servers", [])
        is_known = not self._app.root_path_in_servers or prefix in [s.get("url") for s in servers]
        if prefix and not is_known:
            document = {**document, "servers": [{"url": prefix}, *servers]}
        return JSONResponse(document)


def describe_errors(document: Document, kernel: Kernel) -> None:
    """Describe the errors of every operation, in the form in which the kernel sends them.

    `default` stands for the statuses that an operation does not name. An error that is declared
    with a content of its own stays as it is.
    """
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    name = kernel.error_schema["title"]
    if name in schemas:  # A model of the owner's.
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
            if status >= "4" and method != "head":  # `4XX` and `default` are, too.
                response.setdefault("content", content)
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)


def shorten_ids(document: Document) -> None:
    """Replace FastAPI's ids of operations, which end with path and method, by the routes' names.

    The first of several routes with one name gets it. Ids that the owner has set are kept.
    """
    generated = {}
    taken = set()
    for path, method, operation in _operations(document):
        ending = "({}_(?:{}))".format(re.sub(r"\W", "_", path), "|".join(METHODS))
        found = re.fullmatch(f"(.+?){ending}", operation.get("operationId", ""))
        if found is None:
            taken.add(operation.get("operationId"))
        else:
            generated[path, method] = found[1]
    for path, method, operation in _operations(document):
        if name := generated.get((path, method)):
            # FastAPI gives all methods of one route the same id.
            long = re.sub(r"\W", "_", f"{name}{path}_{method}")
            choices = (name, f"{name}_{method}", long)
            operation["operationId"] = next((each for each in choices if each not in taken), long)
            taken.add(operation["operationId"])


def make_legal(document: Document) -> None:
    """Turn a document into one of OpenAPI 3.1 that generators of clients understand, in place.

    * `itemSchema` becomes the media type's `schema`, which the description says, and ITEM.
    * `$defs` and titled objects become components, and `$id` goes.
    * Bytes are binary, and a media type without a schema gets one.
    * A link within the document names the operation by its id.
    """
    for each in _objects(document):
        _complete_content(each)
        for link in _map(each.get("links")).values():
            _name_operation(link, document)
    components = _Components(document)
    for *_, operation in _operations(document):
        for each in _objects(operation):
            components.take(each.get("schema"), operation.get("operationId", ""))
    for each in _objects(document):
        components.take(each.get("schema"), "")
    components.take_their_own()


def with_item_schemas(document: Document) -> Document:
    """Return a copy of a legal document as one of OpenAPI 3.2, which has `itemSchema`."""
    newer = copy.deepcopy(document)
    newer["openapi"] = "3.2.0"
    for each in _objects(newer):
        if each.pop(ITEM, False):
            each["itemSchema"] = each.pop("schema")
    return newer


def _operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Yield path, method and operation, of webhooks too."""
    for kind in ("paths", "webhooks"):
        for path, item in document.get(kind, {}).items():
            for method in METHODS:
                if method in item:
                    yield path, method, item[method]


def _objects(node: Any) -> Iterator[Document]:
    """Yield each object of a part of a document that is no schema and no example."""
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
    """Give every media type of a body a schema: of one item, where the body is a stream."""
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
        said = f"{owner.get('description', 'A stream').rstrip('.')}."
        kinds = " and ".join(f"`{kind}`" for kind in streams)
        owner["description"] = f"{said} The schema of {kinds} is that of one item of the stream."


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


class _Components:
    """The schemas of a document by name, to which those of others are added."""

    def __init__(self, document: Document) -> None:
        self._schemas = document.setdefault("components", {}).setdefault("schemas", {})
        #: Of names that several schemas have, what the others are called.
        self._others: dict[str, list[str]] = {}

    def take(self, schema: Any, operation: str) -> None:
        """Move what has a name in a schema to the components; `operation` is the id of its user."""
        self._rewrite(schema, _camel(operation), {})

    def take_their_own(self) -> None:
        """Do the same for the components themselves."""
        for schema in list(self._schemas.values()):
            self._rewrite(schema, "", {}, is_component=True)

    def _rewrite(
        self, schema: Any, prefix: str, names: Names, *, is_component: bool = False
    ) -> None:
        """Rewrite a schema in place; `names` are the components of the `$defs` that it sees."""
        if not isinstance(schema, dict):
            return
        schema.pop("$id", None)
        if definitions := schema.pop("$defs", None):
            names = self._place(definitions, prefix, names)
        _rename(schema, names)
        for each in _subschemas(schema):
            self._rewrite(each, prefix, names)
        if not is_component and "properties" in schema and isinstance(schema.get("title"), str):
            placed = self._place({schema["title"]: dict(schema)}, prefix, names)
            reference = COMPONENTS + placed[schema["title"]]
            schema.clear()
            schema["$ref"] = reference

    def _place(self, definitions: Document, prefix: str, outer: Names) -> Names:
        """Add schemas to the components; return `outer` and the names that they got there.

        One that is there already, word for word, is the same; another one of its name gets the name
        of the operation before its own.
        """
        names = {name: _clean(name) for name in definitions}
        others = {name: iter(self._others.setdefault(names[name], [])) for name in names}
        while True:
            moved = copy.deepcopy(definitions)
            for schema in moved.values():
                self._rewrite(schema, prefix, outer | names, is_component=True)
            clashes = [
                name
                for name, schema in moved.items()
                if self._schemas.get(names[name], schema) != schema
            ]
            if not clashes:
                break
            for name in clashes:
                names[name] = next(others[name], "") or self._unused(name, prefix, names)
        self._schemas.update({names[name]: schema for name, schema in moved.items()})
        return outer | names

    def _unused(self, name: str, prefix: str, names: Names) -> str:
        """Return a component's name that no schema has yet, nor is one of `names`."""
        wanted, taken = prefix + _clean(name), {*self._schemas, *names.values()}
        numbered = (f"{wanted}{number}" for number in itertools.count(2))
        found = next(each for each in itertools.chain([wanted], numbered) if each not in taken)
        self._others[_clean(name)].append(found)
        return found


def _rename(schema: Document, names: Names) -> None:
    """Let the references of a schema to `$defs` name components."""
    mapping = _map(_map(schema.get("discriminator")).get("mapping"))
    for holder, key in [(schema, "$ref"), *((mapping, value) for value in mapping)]:
        reference = holder.get(key)
        if isinstance(reference, str) and reference.startswith("#/$defs/"):
            name = unquote(reference.removeprefix("#/$defs/"))
            holder[key] = COMPONENTS + names.get(name, name)


def _subschemas(schema: Document) -> Iterator[Any]:
    for keyword in SCHEMA_IN:
        yield schema.get(keyword)
    for keyword in SCHEMAS_IN:
        yield from schema.get(keyword, [])
    for keyword in SCHEMAS_BY_NAME:
        yield from _map(schema.get(keyword)).values()


def _clean(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _camel(name: str) -> str:
    return "".join(word[0].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", name))
