"""Hooks for schemathesis that supplement the OpenAPI document; no check is relaxed."""

import json
from typing import Any
from uuid import uuid4

import jsonschema_rs
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, HookContext, Response

JSON_LINES = "application/jsonl"
#: Ids of files, which links do not transfer from responses to queries.
STORED: list[str] = []

_values = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())
_rows = st.lists(_values | st.fixed_dictionaries({"sensor": st.text(), "value": st.integers()}))
_lines = _rows.map(lambda rows: "\n".join(map(json.dumps, rows)).encode())
#: An invalid header is rejected with 400; JSON Schema cannot describe a valid one.
_csv = st.lists(st.text()).map(lambda rows: "\n".join(["sensor,value", *rows]).encode())

for kind, bodies in {
    JSON_LINES: _lines,
    "application/x-ndjson": _lines,
    "text/csv": _csv,
    "application/partial-upload": st.binary(),
}.items():
    schemathesis.openapi.media_type(kind, bodies)


@schemathesis.hook
def flatmap_headers(
    context: HookContext, headers: dict[str, Any] | None
) -> st.SearchStrategy[dict[str, Any] | None]:
    """Request each of the media types of an operation."""
    assert context.operation is not None
    answers = context.operation.definition.raw["responses"]
    kinds = list(answers.get("200", {}).get("content", {}))
    if len(kinds) < 2:
        return st.just(headers)
    return st.sampled_from(kinds).map(lambda kind: {**(headers or {}), "Accept": kind})


@schemathesis.hook
def map_body(context: HookContext, body: object) -> object:
    """Write whole numbers as integers: JSON Schema accepts 1.0 as one, pydantic does not."""
    if isinstance(body, dict):
        return {name: map_body(context, value) for name, value in body.items()}
    return int(body) if isinstance(body, float) and body.is_integer() else body


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Use each idempotency key once, as reuse is a 422; archive only existing files; count fast."""
    if case.meta is None or case.meta.generation.mode.is_negative:
        return
    if "idempotency-key" in (case.headers or {}):
        case.headers["idempotency-key"] = str(uuid4())
    if case.method == "PUT" and case.path.startswith("/runs/"):
        case.path_parameters["id"] = str(uuid4())
    if case.path.startswith("/runs/counter") and isinstance(case.body, dict):
        case.body["interval"] = 0  # APP_REALTIME__MAX_AGE does not end a run that is sent as text.
    if case.path == "/archive" and case.method == "POST" and STORED:
        body: Any = STORED[-1:] if case.media_type == "application/json" else {"id": STORED[-1:]}
        case.body = body
    elif case.path == "/archive" and STORED:
        case.query["id"] = STORED[-1:]


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:
    if response.status_code == 201 and case.path == "/files":
        found = response.json()
        STORED.extend(each["id"] for each in (found if isinstance(found, list) else [found]))


@schemathesis.check
def json_lines_conformance(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """Validate every line as an item of the document, which schemathesis does not do."""
    if response.headers.get("content-type") == [JSON_LINES]:
        answer = case.operation.definition.raw["responses"][str(response.status_code)]
        item = answer["content"][JSON_LINES]["schema"]
        schema = {**item, "components": case.operation.schema.raw_schema["components"]}
        validator = jsonschema_rs.validator_for(schema)
        for line in filter(None, response.content.split(b"\n")):
            assert validator.is_valid(json.loads(line)), f"not as documented: {line!r}"
