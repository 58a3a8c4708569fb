"""How many files and connections a process may have open: both take descriptors.

A system gives the lowest descriptor that is free, so that one tells how many are in use.
"""

import os
import socket
import sys
from contextlib import suppress

#: As many as we ask the system for.
WANTED = 1 << 16


def allow_many() -> None:
    """Raise a low limit of the shell: a connection takes one, a file under way two."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # Windows has neither the module nor the limit.

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def allowed() -> int:
    """Return how many descriptors this process may have."""
    with suppress(ImportError):
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return WANTED if soft == resource.RLIM_INFINITY else soft
    return WANTED


def backlog() -> int:
    """Return how many connections may wait to be accepted.

    asyncio accepts all of them at once, and does not recover when its descriptors run out.
    """
    return max(1, min(2048, allowed() // 8))


def more_than(number: int, sock: socket.socket) -> bool:
    """Whether more than `number` descriptors are in use; never on Windows, which has no limit."""
    if sys.platform == "win32":
        return False
    try:
        lowest = os.dup(sock.fileno())
    except OSError:
        return True
    os.close(lowest)
    return lowest >= number
