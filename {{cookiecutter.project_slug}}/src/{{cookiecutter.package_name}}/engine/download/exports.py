"""Exports: typed rows, made as they are sent, in the format that the client accepts."""

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any, TypeVar, get_args, get_origin

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from ..kernel.admission import Admission
from ..kernel.fields import joined
from ..streams.codings import negotiate_coding
from ..streams.pull import ByteStream
from ..streams.rows import described
from .formats import FORMATS, negotiate

Export = TypeVar("Export", bound=Callable[..., AsyncGenerator[Any]])

_ADMISSION = Depends(Admission("download"))


class ExportRouter(APIRouter):
    """An APIRouter with one more decorator, for asynchronous generators of rows."""

    def export(self, path: str, **options: Any) -> Callable[[Export], Export]:
        """Register a generator, `async def …(…) -> AsyncGenerator[Model]`, for GET and HEAD.

        Its parameters are those of a path operation, its docstring the documentation, the model
        that it is annotated with the fields of a row. The first row is made before the headers are
        sent, so it may still raise a Problem. When the client leaves the generator is closed at
        once: open what it needs with `async with` or `try … finally`. `options` are those of
        `APIRouter.get`.
        """

        def register(rows: Export) -> Export:
            signature = inspect.signature(rows, eval_str=True)
            model = _model_of(rows, signature.return_annotation)

            async def send(request: Request, **query: Any) -> ByteStream:
                answer = negotiate(joined(request.headers, "accept"))
                coding = negotiate_coding(joined(request.headers, "accept-encoding"))
                headers = {"Vary": "Accept, Accept-Encoding"}
                if "request" in signature.parameters:
                    query["request"] = request
                return answer(rows(**query), model, headers=headers, coding=coding)

            # The parameters that FastAPI sees: the request, and those of the generator.
            own = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
            given = {**signature.parameters, "request": own}.values()
            endpoint: Any = send
            endpoint.__signature__ = inspect.Signature(
                [each.replace(kind=own.kind) for each in given]
            )
            usual: dict[str, Any] = {
                "name": f"export_{rows.__name__}",
                "description": inspect.getdoc(rows),
                "response_class": Response,
                "responses": {200: {"content": _content(model)}, 406: {}},
            }
            dependencies = [_ADMISSION, *options.pop("dependencies", ())]
            self.get(path, dependencies=dependencies, **(usual | options))(endpoint)
            self.head(path, dependencies=dependencies, include_in_schema=False)(endpoint)
            return rows

        return register


def _model_of(rows: Callable[..., Any], annotation: Any) -> type[BaseModel]:
    """Return the model of the rows; raise TypeError, before anything runs, when there is none."""
    model = next(iter(get_args(annotation)), None)
    generates = get_origin(annotation) in (AsyncGenerator, AsyncIterator, AsyncIterable)
    if generates and isinstance(model, type) and issubclass(model, BaseModel):
        return model
    name = rows.__name__
    raise TypeError(f"an export has to be `async def {name}(…) -> AsyncGenerator[Model]`")


def _content(model: type[BaseModel]) -> dict[str, Any]:
    content: dict[str, Any] = {media_type: {"schema": {"type": "string"}} for media_type in FORMATS}
    return content | described(model)
