"""What every server that is compared needs to be started; ours among them."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent


@dataclass(frozen=True)
class Command:
    """What to run, and in which directory and environment."""

    words: list[str]
    cwd: Path = HERE
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class Tools:
    """Where things are made or installed before servers can be started; each of them once."""

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
             "broker=redis", "--config-file", str(config), "--output-dir", str(output)],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        (project,) = output.iterdir()
        return project

    @property
    def package(self) -> str:
        """The name of our service's package."""
        packages = (path for path in (self.service / "src").iterdir() if path.is_dir())
        (name,) = (path.name for path in packages if path.name.isidentifier())
        return name

    def environment(self, store: Path, **settings: str) -> dict[str, str]:
        """Return the environment of our service, with its files in a directory."""
        named = {f"APP_{name.upper()}": value for name, value in settings.items()}
        return {
            "PYTHONPATH": str(self.service / "src"),
            "APP_STORAGE__URL": f"file:{store}",
            **named,
        }


Start = Callable[[Tools, Path, int], Command]


@dataclass(frozen=True)
class Variant:
    """One way of using one server."""

    name: str
    label: str
    start: Start
    ours: bool = field(default=False, kw_only=True)
    ping: str = field(default="/health/live", kw_only=True)
    program: str = field(default=sys.executable, kw_only=True)
    """What must be installed."""

    @property
    def available(self) -> bool:
        return shutil.which(self.program) is not None


def uvicorn(app: str, port: int, **env: str) -> Command:
    """Serve one of the applications beside this file."""
    words = ["-m", "uvicorn", app, "--port", str(port), "--no-access-log"]
    return Command([sys.executable, *words], env=env)


def nginx(files: Path, port: int, http: str, server: str) -> Command:
    """Run nginx with one worker and these directives."""
    config = files / "nginx.conf"
    # A worker of root's becomes another user, who may not see the directory; nobody else's does.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(user=user, files=files, port=port, http=http, server=server))
    return Command(["nginx", "-p", str(files), "-c", str(config), "-e", "stderr"])


NGINX = """
{user}
daemon off;
worker_processes 1;
pid {files}/nginx.pid;
events {{}}
http {{
    access_log off;
    keepalive_requests 1000000;
    {http}
    server {{
        listen 127.0.0.1:{port};
        {server}
        location = /ping {{
            return 200 "live";
        }}
    }}
}}
"""
