"""Generate a project, install it, and run its checks and its owner's tests on this platform.

generate.py [FOLDER] [KEY=VALUE ...]    FOLDER is empty or new; by default a temporary one
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
#: The same as in the workflow of the project.
COMMANDS = [
    ["uv", "sync"],
    ["uv", "run", "ruff", "check"],
    ["uv", "run", "ruff", "format", "--check"],
    ["uv", "run", "mypy"],
    ["uv", "run", "serve", "check"],
    ["uv", "run", "lint-imports"],
    ["uv", "run", "pytest"],
]


def generate(folder: Path, answers: Sequence[str]) -> Path:
    """Generate a project with these values, and the defaults of the other questions."""
    settings = folder / "cookiecutter.yaml"
    settings.write_text(f"cookiecutters_dir: '{folder}'\nreplay_dir: '{folder}'\n", "utf-8")
    output = folder / "output"
    command = [sys.executable, "-m", "cookiecutter", str(REPOSITORY), "--no-input"]
    command += ["--config-file", str(settings), "--output-dir", str(output), *answers]
    subprocess.run(command, check=True)  # noqa: S603  # Our own.
    (project,) = output.iterdir()
    return project


def main(folder: Path, answers: Sequence[str], commands: Sequence[Sequence[str]]) -> int:
    """Run all commands, also after one fails; return the number of failures."""
    folder.mkdir(parents=True, exist_ok=True)
    project = generate(folder, answers)
    failed = []
    for command in commands:
        print(f"\n$ {' '.join(command)}", flush=True)
        if subprocess.run(command, cwd=project, check=False).returncode:  # noqa: S603
            failed.append(" ".join(command))
    print(*(f"failed: {command}" for command in failed), sep="\n")
    return len(failed)


if __name__ == "__main__":
    folders = [each for each in sys.argv[1:] if "=" not in each]
    given = [each for each in sys.argv[1:] if "=" in each]
    # The service of a test may still close its files when the folder is removed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        sys.exit(main(Path(*folders or [temporary]), given, COMMANDS))
