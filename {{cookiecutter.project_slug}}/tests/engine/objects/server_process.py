"""An S3 server as a process: it prints its port, and ends when its standard input closes.

So it also ends with the process of the tests. `moto` is written in Python and keeps all objects in
memory; SeaweedFS is a program, and stores them in a temporary folder.
"""

import io
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

#: Next to the Python of the project, or installed for all.
PROGRAM = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
#: Every server of SeaweedFS listens on two ports.
_PORTS = ("master", "volume", "filer", "s3", "admin")
_OPTIONS = (
    "-ip=127.0.0.1 -ip.bind=127.0.0.1 -admin.ui=false -webdav=false -master.telemetry=false"
    " -s3.port.iceberg=0 -s3.port.lance=0 -s3.autoCreateBucket=false"
)


def run_moto() -> None:
    """Run moto for one request at a time: its conditional writes are not atomic."""
    from moto.moto_server import werkzeug_app as moto
    from werkzeug.serving import make_server

    class Handler(moto.MotoRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, *_: object) -> None:
            """Print nothing."""

    application = moto.DomainDispatcherApplication(moto.create_backend_app)
    lock = threading.Lock()

    def one_by_one(environ: dict[str, Any], start_response: Any) -> Any:
        if "HTTP_TRANSFER_ENCODING" not in environ:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        with lock:
            return application(environ, start_response)

    server = make_server("127.0.0.1", 0, one_by_one, threaded=True, request_handler=Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.port, flush=True)  # noqa: T201
    sys.stdin.read()
    os._exit(0)  # Threads that serve idle connections would outlive it.


def run_seaweedfs() -> None:
    """Run SeaweedFS; another process may take one of its ports, then others are tried."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process, port = _start(folder)
        while not _listens(port):
            if process.poll() is not None:
                process, port = _start(folder)
            time.sleep(0.02)
        print(port, flush=True)  # noqa: T201
        sys.stdin.read()
        process.kill()  # It would wait for half a minute to end by itself.
        process.wait()


def _start(folder: str) -> tuple[subprocess.Popen[bytes], int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2 * len(_PORTS))]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        numbers = [each.getsockname()[1] for each in sockets]
    names = [f"-{name}.port{end}" for end in ("", ".grpc") for name in _PORTS]
    ports = [f"{name}={number}" for name, number in zip(names, numbers, strict=True)]
    files = [f"-{name}.localSocket={folder}/{name}.sock" for name in ("filer", "s3")]
    with Path(folder, "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [str(PROGRAM), "mini", f"-dir={folder}", *_OPTIONS.split(), *files, *ports],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return process, numbers[_PORTS.index("s3")]


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


if __name__ == "__main__":
    {"moto": run_moto, "seaweedfs": run_seaweedfs}[sys.argv[1]]()
