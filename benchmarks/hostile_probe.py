"""Repeatedly probe the health of a server, each time on a new connection."""

import http.client
import os
import time
from contextlib import closing, suppress
from dataclasses import dataclass

import load
from load import HOST, Load

EVERY = 0.01
#: Seconds after which a probe has failed.
PATIENCE = 10
#: A high priority, if permitted.
PRIORITY = -10


@dataclass(frozen=True)
class Plan:
    """Request a path for `seconds`."""

    port: int
    path: str
    seconds: float


@dataclass(frozen=True)
class Probed(Load):
    """The seconds of each response, and the number of failed probes."""

    answers: tuple[float, ...] = ()
    errors: int = 0


def run(plan: Plan) -> Probed:
    """Probe until the end of the time."""
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
