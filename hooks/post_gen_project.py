"""Delete the modules that are not selected, then print the next steps."""

import json
import shutil
import sys
from pathlib import Path

ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")
SRC = f"src/{ANSWERS['package_name']}"
UPLOAD, DOWNLOAD, REALTIME = (ANSWERS[f"use_{x}"] for x in ("upload", "download", "realtime"))
RESUME, KEYS = UPLOAD and ANSWERS["resumable_uploads"], ANSWERS["auth"] == "api-key"
ERRORS, CHAT = ANSWERS["use_error_handling"], REALTIME and ANSWERS["use_chat"]
FILES, STREAMS = UPLOAD or DOWNLOAD, UPLOAD or DOWNLOAD or REALTIME
S3, SHARED = FILES and ANSWERS["storage"] == "s3", REALTIME and ANSWERS["broker"] == "redis"
ENGINE, TESTS = f"{SRC}/engine", "tests/engine"
#: Paths and patterns that depend on answers; a test compares this with the tree. Other paths are
#: always kept.
OWNED = [
    (UPLOAD, [f"{ENGINE}/upload", f"{SRC}/files.py", f"{SRC}/ingest.py", f"{TESTS}/upload"]),
    (RESUME, [f"{ENGINE}/upload/resumable", "**/*partials*.py", f"{TESTS}/resumable"]),
    (UPLOAD, ["tests/test_files.py", "tests/test_ingest.py"]),
    (RESUME or REALTIME or S3, [f"{ENGINE}/streams/clock.py"]),
    (DOWNLOAD, [f"{ENGINE}/download", f"{ENGINE}/server/sendfile.py", f"{TESTS}/download"]),
    (DOWNLOAD, [f"{SRC}/exports.py", f"{SRC}/transforms.py"]),
    (DOWNLOAD, ["tests/test_exports.py", "tests/test_transforms.py"]),
    (FILES, [f"{ENGINE}/storage", f"{TESTS}/storage"]),
    (SHARED or S3, [f"{TESTS}/redis_server.py"]),
    (S3, [f"{ENGINE}/objects", f"{ENGINE}/storage/s3", f"{TESTS}/objects", "docs/scaling.md"]),
    (STREAMS, [f"{ENGINE}/streams", f"{TESTS}/streams", f"{TESTS}/errors/test_rows.py"]),
    (STREAMS, [f"{TESTS}/observability/test_streams.py", f"{ENGINE}/server/chunk_sizes.py"]),
    (REALTIME, [f"{ENGINE}/realtime", f"{TESTS}/realtime", f"{TESTS}/errors/test_events.py"]),
    (REALTIME, [f"{ENGINE}/streams/push.py", f"{ENGINE}/server/direct.py", "docs/realtime.md"]),
    (REALTIME, [f"{SRC}/runs.py", "tests/test_runs.py", "docs/runs.md", "tests/test_events.py"]),
    (REALTIME, [f"{TESTS}/*/test_direct.py"]),
    (CHAT, [f"{ENGINE}/realtime/chat", f"{SRC}/chat.py", f"{TESTS}/realtime/chat", "docs/chat.md"]),
    (CHAT, ["tests/test_chat.py", f"{SRC}/web/chat.js", f"{TESTS}/realtime/access/test_chat.py"]),
    (REALTIME and UPLOAD, [f"{ENGINE}/realtime/files.py", f"{TESTS}/realtime/**/test_files.py"]),
    (SHARED, [f"{ENGINE}/realtime/backends/redis*.py", f"{TESTS}/realtime/**/test_*redis*.py"]),
    (SHARED, [f"{TESTS}/realtime/{name}.py" for name in ("redis", "replicas", "words")]),
    (ERRORS, [f"{ENGINE}/errors", f"{TESTS}/errors", "tests/test_errors.py", "docs/problems.md"]),
    (KEYS, [f"{ENGINE}/access", f"{SRC}/access.py", f"{TESTS}/access"]),
    (KEYS and S3, [f"{ENGINE}/access/bucket.py", f"{TESTS}/access/replicas"]),
    (KEYS and RESUME and DOWNLOAD, [f"{TESTS}/access/files"]),
    (KEYS, ["tests/test_access.py", "docs/access.md", f"{TESTS}/realtime/access"]),
    (ANSWERS["use_demo_page"], [f"{SRC}/web", f"{TESTS}/test_web.py"]),
    (ANSWERS["engine_tests"], [TESTS]),
    (ANSWERS["use_docker"], ["Dockerfile", ".dockerignore", "compose.yaml"]),
    (ANSWERS["use_docker"] and S3 and (SHARED or not REALTIME), ["compose.replicas.yaml"]),
    (ANSWERS["ci"] == "github", [".github"]),
    (ANSWERS["ci"] == "gitlab", [".gitlab-ci.yml"]),
]


def prune():
    """Delete the paths that the answers do not include; missing paths are ignored."""
    for pattern in (pattern for wanted, patterns in OWNED if not wanted for pattern in patterns):
        for path in list(Path().glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def print_next_steps():
    print(f"""
{ANSWERS["project_name"]} is ready in {Path.cwd()}

  cd {ANSWERS["project_slug"]}
  uv run serve        # http://127.0.0.1:8000
  uv run pytest       # runs its tests

Without uv: run python -m venv .venv, activate it, run pip install . and serve.
To put it under version control: git init
To use the same answers again: cookiecutter {ANSWERS.get("_template", "")} --replay
""")


if __name__ == "__main__":
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # A console may lack some letters of a name.
    prune()
    print_next_steps()
