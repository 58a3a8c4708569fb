"""Runs as generators; each request for the events starts the run again."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter

router = APIRouter()

#: Names that the package imports; unused here.
RunStream = RunsDep = object
read_json: Any = None

RUNS: dict[str, Callable[..., AsyncIterator[Any]]] = {}


class RunRouter(APIRouter):
    """A global registry of generators for all applications."""

    def run(self, path: str) -> Callable[[Any], Any]:
        def register(function: Any) -> Any:
            RUNS[path.strip("/")] = function
            return function

        return register
