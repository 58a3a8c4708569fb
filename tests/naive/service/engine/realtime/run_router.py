"""Runs as the tutorials write them: a generator, which whoever asks for its events runs anew."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter

router = APIRouter()

#: What the package names of ours; nobody here has them.
RunStream = RunsDep = object
read_json: Any = None

RUNS: dict[str, Callable[..., AsyncIterator[Any]]] = {}


class RunRouter(APIRouter):
    """Keeps the generators of all applications in one place."""

    def run(self, path: str) -> Callable[[Any], Any]:
        def register(function: Any) -> Any:
            RUNS[path.strip("/")] = function
            return function

        return register
