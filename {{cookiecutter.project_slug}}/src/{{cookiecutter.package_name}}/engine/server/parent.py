"""The end of workers whose supervisor has died, also by SIGKILL, so that it could not end them."""

import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
from multiprocessing.process import BaseProcess

#: Seconds after the drain in which a worker may end by itself.
LATE = 5.0

logger = logging.getLogger("uvicorn.error")


def end_with_parent(drain: float, directory: str | None) -> None:
    """Drain this process, for at most `drain` seconds, when the process that started it has died.

    It then also removes `directory`, which the other process would have removed.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent, drain, directory), daemon=True).start()


def _follow(parent: BaseProcess, drain: float, directory: str | None) -> None:
    parent.join()  # Waits for the end of a pipe, which only the parent holds open.
    logger.error("The supervisor has died: this worker ends, too")
    if directory:
        shutil.rmtree(directory, ignore_errors=True)  # The open files in it can still be used.
    signal.raise_signal(signal.SIGTERM)
    time.sleep(drain + LATE)
    os._exit(1)
