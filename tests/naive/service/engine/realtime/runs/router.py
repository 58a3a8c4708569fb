"""Runs as generators; each request for the events starts the run again."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter

router = APIRouter()

#: Names that the package and the tests import.
RunsDep = IdempotencyKey = object
read_json: Any = None
ALIVE_SECONDS = 5.0

RUNS: dict[str, Callable[..., AsyncIterator[Any]]] = {}


class RunRouter(APIRouter):
    """A global registry of generators for all applications."""

    def run(self, path: str, **options: Any) -> Callable[[Any], Any]:
        def register(function: Any) -> Any:
            RUNS[path.strip("/")] = function
            return function

        return register
