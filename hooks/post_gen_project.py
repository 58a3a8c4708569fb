"""Remove what was not chosen, then finish: a git repository, and what to do next."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")
PACKAGE = f"src/{ANSWERS['package_name']}"

UPLOAD = ANSWERS["use_upload"]
RESUMABLE = UPLOAD and ANSWERS["resumable_uploads"]
DOWNLOAD = ANSWERS["use_download"]
REALTIME = ANSWERS["use_realtime"]


def tests(*names):
    return [f"tests/{name}.py" for name in names]


def code(module, *names):
    return [f"{PACKAGE}/{module}/{name}.py" for name in names]


#: What is generated only for some answers; everything else belongs to every project. A test holds
#: this table against the tree.
OWNED = [
    (UPLOAD, [f"{PACKAGE}/upload", *tests("test_upload", "test_upload_faults", "uploads")]),
    (UPLOAD, tests("test_multipart", "test_ingest")),
    (RESUMABLE, code("upload", "uploads", "tus", "resumable", "session", "sessions", "addresses", "checksums")),
    (RESUMABLE, code("storage", "partials")),
    (DOWNLOAD, [f"{PACKAGE}/download", *tests("test_download", "test_conditional")]),
    (UPLOAD or DOWNLOAD, [f"{PACKAGE}/storage", *tests("test_storage", "stored")]),
    (REALTIME, [f"{PACKAGE}/realtime"]),
    (REALTIME, tests("test_realtime", "test_realtime_faults", "subscriber")),
    (ANSWERS["use_error_handling"], [f"{PACKAGE}/errors", *tests("test_errors")]),
    (ANSWERS["use_demo_page"], [f"{PACKAGE}/web", *tests("test_web")]),
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
