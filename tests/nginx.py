"""nginx in front of a generated service, with the configuration of docs/operations.md."""

import os
import pwd
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from answers import REPOSITORY
from baking import TEMPLATE_FOLDER
from tools import program


@contextmanager
def nginx_before(service: int, data: Path, folder: Path) -> Iterator[int]:
    """Run nginx in front of the service on a port, with files in `folder`; yield its own port."""
    nginx = program("nginx")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        config = folder / "nginx.conf"
        config.write_text(configuration(folder, port, service, data), "utf-8")
        words = [nginx, "-p", str(folder), "-c", str(config), "-e", "stderr"]
        tested = subprocess.run([*words, "-t"], capture_output=True, text=True, check=False)
        assert tested.returncode == 0, tested.stderr
        # nginx inherits the listening socket like during an upgrade, so the port is reserved and
        # clients can connect at once.
        handed = {**os.environ, "NGINX": f"{listener.fileno()};"}
        with subprocess.Popen(words, env=handed, pass_fds=[listener.fileno()]) as process:
            listener.close()
            try:
                yield port
            finally:
                process.terminate()


def configuration(folder: Path, port: int, service: int, data: Path) -> str:
    """Return an nginx.conf with the configuration of the page and the addresses of the test."""
    page = (REPOSITORY / TEMPLATE_FOLDER / "docs/operations.md").read_text("utf-8")
    (server,) = re.findall(r"^```nginx\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    server = re.sub(r"^# \{%.*\n", "", server, flags=re.MULTILINE)  # Keep all conditional parts.
    for written, ours in {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "server_name files.example.com;": "server_name 127.0.0.1;",
        "http://127.0.0.1:8000;": f"http://127.0.0.1:{service};",
        "alias /srv/streaming-service/data/files/;": f"alias {data}/files/;",
    }.items():
        assert server.count(written) == 1, written
        server = server.replace(written, ours)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root, workers would run as another user without access to the folder.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    return (
        f"{user} daemon off; pid {folder}/nginx.pid; worker_processes 1; events {{}}\n"
        f"http {{ access_log off; gzip on; {temporary}\n{server}}}\n"
    )
