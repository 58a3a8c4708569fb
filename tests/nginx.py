"""nginx in front of generated services, with the configuration of deploy/nginx.conf."""

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

#: The replicas of `compose.replicas.yaml`, and the line for a single process.
SERVER = re.compile(r"^ *server (\S+:\d+)( resolve)?( .*);\n", re.MULTILINE)


@contextmanager
def nginx_before(folder: Path, data: Path, *services: int) -> Iterator[int]:
    """Run nginx in front of services on these ports, with files in `folder`; yield its own port."""
    nginx = program("nginx")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        config = folder / "nginx.conf"
        config.write_text(configuration(folder, data, port, *services), "utf-8")
        words = [nginx, "-p", str(folder), "-c", str(config), "-e", "stderr"]
        tested = subprocess.run([*words, "-t"], capture_output=True, text=True, check=False)
        assert tested.returncode == 0, tested.stderr
        # nginx inherits the listening socket like during an upgrade, so the port is reserved and
        # clients can connect at once. Its workers compete for connections, so none may wait.
        listener.setblocking(False)
        handed = {**os.environ, "NGINX": f"{listener.fileno()};"}
        with subprocess.Popen(words, env=handed, pass_fds=[listener.fileno()]) as process:
            listener.close()
            try:
                yield port
            finally:
                process.terminate()


def configuration(folder: Path, data: Path, port: int, *services: int) -> str:
    """Return the configuration of the template with the addresses and folders of the test."""
    text = (REPOSITORY / TEMPLATE_FOLDER / "deploy/nginx.conf").read_text("utf-8")
    text = re.sub(r"^ *# \{%.*\n", "", text, flags=re.MULTILINE)  # Keep all conditional parts.
    (parameters,) = {match[3] for match in SERVER.finditer(text)}
    text = SERVER.sub("", text)
    servers = "".join(f"server 127.0.0.1:{each}{parameters};\n" for each in services)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root, workers would run as another user without access to the folder.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    for written, ours in {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "server_name files.example.com;": "server_name 127.0.0.1;",
        "alias /srv/streaming-service/data/files/;": f"alias {data}/files/;",
        # The resolver is that of Docker.
        "resolver 127.0.0.11 valid=2s;": "",
        "zone service 256k;": f"zone service 256k;\n{servers}",
        "http {": f"{user} daemon off; pid {folder}/nginx.pid;\n"
        f"http {{ access_log off; gzip on; {temporary}",
    }.items():
        assert text.count(written) == 1, written
        text = text.replace(written, ours)
    return text
