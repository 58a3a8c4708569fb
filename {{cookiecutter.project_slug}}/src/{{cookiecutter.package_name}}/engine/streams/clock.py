"""Time for what expires: a wall clock that jumps forward must not delete anything."""

import sys
import time

if sys.platform == "linux":

    def steady_time() -> float:
        """Return seconds since some moment; they are never set, and include a suspension."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
else:
    steady_time = time.monotonic

#: The time of the wall clock at 0 of the steady clock, as the process started.
_OFFSET = time.time() - steady_time()


def expiry_time() -> float:
    """Return the seconds since the epoch, but not more than have passed since the process started.

    After a jump forward, things expire late until the next start, and none expires too early.
    """
    return min(time.time(), _OFFSET + steady_time())
