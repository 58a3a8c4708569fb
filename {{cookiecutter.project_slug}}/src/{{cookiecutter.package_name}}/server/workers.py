"""Several processes that answer on one port, and what they share."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from uvicorn.supervisors import multiprocess

PACKAGE = __name__.partition(".")[0]


class Worker(multiprocess.Process):
    """A process whose death is seen at once by who waits for its answer.

    uvicorn's own keeps the worker's end of their pipe open in the supervisor too. There a worker
    that dies when it has just been asked whether it works is waited for until the timeout: so long
    it is not replaced, nor is SIGTERM heeded.
    """

    def start(self) -> None:
        super().start()
        self.child_conn.close()


@contextmanager
def several(number: int) -> Generator[None]:
    """Tell the processes that are started how many they are, and where they share their metrics."""
    os.environ["APP_SERVER__WORKERS"] = str(number)
    multiprocess.Process = Worker  # type: ignore[misc]  # uvicorn has no other way to say which.
    if number == 1 or "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        yield
        return
    # In memory, where there is that: they are mapped, and a full disk would end the workers.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    with TemporaryDirectory(
        prefix=f"{PACKAGE}-", dir=memory, ignore_cleanup_errors=True
    ) as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        yield
