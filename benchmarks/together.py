"""Run a server, and another one in front of it, until SIGTERM: together.py PLAN.

PLAN is JSON: the command that is run `first`, its `port`, and the command that is run `then`.
"""

import json
import signal
import socket
import subprocess
import sys
import time


def main(port: int, first: list[str], then: list[str]) -> None:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with subprocess.Popen(first) as behind:
        try:
            while behind.poll() is None and not listens(port):
                time.sleep(0.02)
            with subprocess.Popen(then) as front:
                try:
                    front.wait()
                finally:
                    front.terminate()
        finally:
            behind.terminate()


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
