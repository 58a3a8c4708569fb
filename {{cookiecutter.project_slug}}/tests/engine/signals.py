"""Signals that Windows lacks: there, all of them end the process."""

import signal
import sys

if sys.platform == "win32":
    KILL = STOP = CONTINUE = signal.SIGTERM
else:
    KILL, STOP, CONTINUE = signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT
