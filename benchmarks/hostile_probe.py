"""Ask a server again and again whether it is live, on a new connection each time."""

import http.client
import os
import time
from contextlib import closing, suppress
from dataclasses import dataclass

import load
from load import HOST, Load

EVERY = 0.01
#: Seconds after which a question counts as not answered.
PATIENCE = 10
#: Ahead of those that attack, where that is allowed.
PRIORITY = -10


@dataclass(frozen=True)
class Plan:
    """For how many `seconds` a path is asked for."""

    port: int
    path: str
    seconds: float


@dataclass(frozen=True)
class Probed(Load):
    """The seconds that each response took, in order, and how many did not come or were no 200."""

    answers: tuple[float, ...] = ()
    errors: int = 0


def run(plan: Plan) -> Probed:
    """Ask until the time is over."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    answers: list[float] = []
    started = time.monotonic()
    errors = 0
    while time.monotonic() - started < plan.seconds:
        asked_at = time.perf_counter()
        try:
            status = ask(plan)
        except (OSError, http.client.HTTPException):
            status = 0
        answers.append(time.perf_counter() - asked_at)
        errors += status != http.HTTPStatus.OK
        time.sleep(EVERY)
    return Probed(time.monotonic() - started, time.process_time(), tuple(answers), errors)


def ask(plan: Plan) -> int:
    with closing(http.client.HTTPConnection(HOST, plan.port, timeout=PATIENCE)) as connection:
        connection.request("GET", plan.path)
        response = connection.getresponse()
        response.read()
        return response.status


if __name__ == "__main__":
    load.main(lambda values: run(Plan(**values)))
