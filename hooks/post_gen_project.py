"""Remove what was not chosen, then finish: a git repository, and what to do next."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")
SRC = f"src/{ANSWERS['package_name']}"
UPLOAD, DOWNLOAD = ANSWERS["use_upload"], ANSWERS["use_download"]
RESUMABLE = UPLOAD and ANSWERS["resumable_uploads"]
REALTIME = ANSWERS["use_realtime"]
SHARED = REALTIME and ANSWERS["broker"] == "redis"
REDIS = ["redis", "redis_kept", "redis_lua", "redis_reading", "redis_scripts"]
REDIS_TESTS = ["redis", "test_redis", "test_redis_data", "test_redis_faults"]
REDIS_TESTS += ["test_redis_bounds", "test_redis_workers", "test_runs_redis"]
#: What only some answers generate; the rest is in every project. A test holds it against the tree.
OWNED = [
    (UPLOAD, [f"{SRC}/upload", "tests/upload"]),
    (RESUMABLE, [f"{SRC}/upload/resumable", "tests/resumable"]),
    (RESUMABLE, [f"{SRC}/storage/{name}.py" for name in ("concatenation", "partial", "partials")]),
    (DOWNLOAD, [f"{SRC}/download", "tests/download"]),
    (UPLOAD or DOWNLOAD, [f"{SRC}/storage", "tests/storage"]),
    (REALTIME, [f"{SRC}/realtime", f"{SRC}/server/websocket.py", "tests/realtime"]),
    (REALTIME and UPLOAD, [f"{SRC}/realtime/files.py", "tests/realtime/test_files.py"]),
    (SHARED, [f"{SRC}/realtime/backends/{name}.py" for name in REDIS]),
    (SHARED, [f"tests/realtime/{name}.py" for name in REDIS_TESTS]),
    (ANSWERS["use_error_handling"], [f"{SRC}/errors", "tests/errors"]),
    (ANSWERS["use_demo_page"], [f"{SRC}/web", "tests/test_web.py"]),
    (ANSWERS["use_docker"], ["Dockerfile", ".dockerignore", "compose.yaml"]),
    (ANSWERS["ci"] == "github", [".github"]),
    (ANSWERS["ci"] == "gitlab", [".gitlab-ci.yml"]),
]


def prune():
    """Delete what belongs to answers that were not given; what is gone already is fine."""
    for wanted, paths in OWNED:
        for path in [] if wanted else map(Path, paths):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def init_git():
    """Make a repository, unless this is inside one or cruft will patch it; commit nothing."""
    if not ANSWERS["init_git"] or "_commit" in ANSWERS or run("git", "rev-parse", "--git-dir"):
        return
    if not run("git", "init", "--quiet", "--initial-branch=main"):
        print("No git repository was made: 'git init' did not work here.")


def run(*command):
    """Run a command in silence and return whether it worked; it may not even be there."""
    found = shutil.which(command[0])
    return found and not subprocess.run([found, *command[1:]], capture_output=True).returncode


def say_next_steps():
    template = ANSWERS.get("_template", "")
    print(f"""
{ANSWERS["project_name"]} is ready in {Path.cwd()}

  cd {ANSWERS["project_slug"]}
  uv run serve        # http://127.0.0.1:8000
  uv run pytest       # its own tests

Without uv: python -m venv .venv, activate it, pip install . and serve.
The same answers again: cookiecutter {template} --replay
""")


if __name__ == "__main__":
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # A console need not know every name's letters.
    prune()
    init_git()
    say_next_steps()
