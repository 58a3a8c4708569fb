"""Runs as generators; each request for the events starts the run again."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter

from ..kernel.problem import ProblemType

router = APIRouter()

#: Names that the package and the tests import.
RunStream = RunsDep = object
read_json: Any = None
ALIVE, BEGIN, LOST_AFTER, ALIVE_SECONDS, RETRY_SECONDS = "runs:alive", "(begin)", 4, 5.0, 1.0
TOO_MANY_RUNS = ProblemType("too-many-runs", "Too many runs", "")

RUNS: dict[str, Callable[..., AsyncIterator[Any]]] = {}


class RunRouter(APIRouter):
    """A global registry of generators for all applications."""

    def run(self, path: str) -> Callable[[Any], Any]:
        def register(function: Any) -> Any:
            RUNS[path.strip("/")] = function
            return function

        return register
