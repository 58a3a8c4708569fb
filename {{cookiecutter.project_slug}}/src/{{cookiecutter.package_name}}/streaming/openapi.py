"""The errors in the OpenAPI document: FastAPI tells of one of its own, and of no other."""

from typing import Any

from fastapi import FastAPI

from .kernel import Kernel


def document_errors(app: FastAPI, kernel: Kernel) -> None:
    """Make every operation tell of its errors, in the form in which the kernel describes them.

    `default` stands for the statuses that an operation does not name. An error that is declared
    with a content of its own stays as it is.
    """
    generate = app.openapi
    kept: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        nonlocal kept
        document = generate()
        if document is kept:  # FastAPI has kept it from the last time.
            return document
        kept = document
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        name = kernel.error_schema["title"]
        if name in schemas:  # A model of the owner's.
            name = f"{name}Document"
        schemas[name] = kernel.error_schema
        content = {kernel.media_type: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
        for path in document["paths"].values():
            for method, operation in path.items():
                _add(operation["responses"], content if method != "head" else None)
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # As FastAPI's manual says.


def _add(responses: dict[str, Any], content: dict[str, Any] | None) -> None:
    responses.setdefault("default", {"description": "Any other error."})
    for status, response in responses.items():
        if "HTTPValidationError" in str(response.get("content")):
            response["description"] = "The request is not valid."
            del response["content"]
        if status >= "4" and content is not None:  # `4XX` and `default` are, too.
            response.setdefault("content", content)
