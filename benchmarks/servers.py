"""The servers that are compared, and how each is started."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
MAX_SIZE = 64 << 30


@dataclass(frozen=True)
class Command:
    """What to run, and in which directory and environment."""

    words: list[str]
    cwd: Path = HERE
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Tools:
    """What has to be made or installed before servers can be started; each of it once."""

    directory: Path
    """Removed when all is measured."""
    kept: Path
    """Stays, so that packages are not installed each time."""
    generated: Path | None = None
    """A service to measure; else one is generated."""

    @cached_property
    def service(self) -> Path:
        """Generate our service, with every module."""
        if self.generated:
            return self.generated.resolve()
        config = self.directory / "cookiecutter.yaml"
        config.write_text(f"cookiecutters_dir: {self.directory}\nreplay_dir: {self.directory}\n")
        output = self.directory / "service"
        subprocess.run(
            [sys.executable, "-m", "cookiecutter", str(REPOSITORY), "--no-input", "init_git=no",
             "--config-file", str(config), "--output-dir", str(output)],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        (project,) = output.iterdir()
        return project

    @cached_property
    def node(self) -> Path:
        """Install the packages of `tus_server.mjs`."""
        directory = self.kept / "node"
        directory.mkdir(exist_ok=True)
        for name in ("package.json", "tus_server.mjs"):
            shutil.copy(HERE / name, directory)
        command = [
            "npm",
            "install",
            "--no-package-lock",
            "--no-audit",
            "--no-fund",
            "--silent",
        ]
        subprocess.run(command, cwd=directory, check=True)
        return directory


Start = Callable[[Tools, Path, int], Command]


def start_ours(tools: Tools, files: Path, port: int) -> Command:
    (package,) = (path for path in (tools.service / "src").iterdir() if path.is_dir())
    env = {
        "PYTHONPATH": str(tools.service / "src"),
        "APP_SERVER__PORT": str(port),
        "APP_STORAGE__URL": f"file:{files}",
        "APP_UPLOAD__MAX_SIZE": str(MAX_SIZE),
    }
    return Command([sys.executable, "-m", package.name], files, env)


def start_naive(tools: Tools, files: Path, port: int) -> Command:
    words = [
        "-m",
        "uvicorn",
        "naive_upload:app",
        "--port",
        str(port),
        "--no-access-log",
    ]
    # Forms are spooled into TMPDIR: the same file system for everybody.
    return Command([sys.executable, *words], env={"FILES": str(files), "TMPDIR": str(files)})


def start_node(tools: Tools, files: Path, port: int) -> Command:
    return Command(["node", "tus_server.mjs", str(port), str(files)], tools.node)


def start_nginx(tools: Tools, files: Path, port: int, *, buffer: str = "16k") -> Command:
    config = files / "nginx.conf"
    # A worker of root's becomes another user, who may not see the directory; nobody else's does.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(user=user, files=files, port=port, buffer=buffer))
    return Command(["nginx", "-p", str(files), "-c", str(config), "-e", "stderr"])


NGINX = """
{user}
daemon off;
worker_processes 1;
pid {files}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_buffer_size {buffer};
    client_body_temp_path {files}/incoming;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port};
        root {files}/stored;
        location / {{
            dav_methods PUT;
            create_full_put_path on;
        }}
        location = /ping {{
            return 200 "live";
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Variant:
    """One way of uploading to one server."""

    name: str
    label: str
    start: Start
    request: str
    path: str
    ping: str = "/health/live"
    copies: int = 1
    """How often what is uploaded is written."""
    program: str = sys.executable
    """What must be installed."""

    @property
    def ours(self) -> bool:
        return self.start is start_ours

    @property
    def available(self) -> bool:
        return shutil.which(self.program) is not None


VARIANTS = [
    Variant("raw", "ours, raw body", start_ours, "raw", "/files"),
    Variant("tus", "ours, tus PATCH", start_ours, "tus", "/uploads"),
    Variant("multipart", "ours, multipart", start_ours, "form", "/files"),
    Variant(
        "discard",
        "FastAPI, receive and discard",
        start_naive,
        "raw",
        "/discard",
        copies=0,
    ),
    Variant("chunks", "FastAPI, aiofiles write per chunk", start_naive, "raw", "/chunks"),
    Variant("form", "FastAPI, UploadFile and copy", start_naive, "form", "/form", copies=2),
    Variant("tuspyserver", "tuspyserver", start_naive, "tus", "/tus"),
    Variant("node", "@tus/server", start_node, "tus", "/files", "/ping", program="npm"),
    Variant("nginx", "nginx, as it comes", start_nginx, "put", "/", "/ping", program="nginx"),
    Variant(
        "nginx-1m",
        "nginx, 1 MiB buffer",
        partial(start_nginx, buffer="1m"),
        "put",
        "/",
        "/ping",
        program="nginx",
    ),
]
