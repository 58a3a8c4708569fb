"""Delete the modules that are not selected, then print a summary and the next steps."""

import json
import shutil
import sys
from pathlib import Path

ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")
UPLOAD, DOWNLOAD, REALTIME = (ANSWERS[f"use_{x}"] for x in ("upload", "download", "realtime"))
RESUME, CHAT = UPLOAD and ANSWERS["resumable_uploads"], REALTIME and ANSWERS["use_chat"]
FILES, KEYS, ERRORS = UPLOAD or DOWNLOAD, ANSWERS["auth"] != "none", ANSWERS["use_error_handling"]
S3, SHARED = FILES and ANSWERS["storage"] == "s3", REALTIME and ANSWERS["broker"] == "redis"
P, E, T = f"src/{ANSWERS['package_name']}", f"src/{ANSWERS['package_name']}/engine", "tests/engine"
#: The paths and patterns that depend on answers; a test compares this with the tree.
OWNED = [
    (UPLOAD, [f"{E}/upload", f"{T}/upload", f"{P}/files.py", f"{P}/ingest.py"]),
    (UPLOAD, ["tests/test_files.py", "tests/test_ingest.py"]),
    (RESUME, [f"{E}/upload/resumable", "**/*partials*.py", f"{T}/resumable"]),
    (RESUME or REALTIME or S3, [f"{E}/streams/clock.py"]),
    (DOWNLOAD, [f"{E}/download", f"{E}/server/sendfile.py", f"{T}/download", f"{P}/exports.py"]),
    (DOWNLOAD, [f"{P}/transforms.py", "tests/test_exports.py", "tests/test_transforms.py"]),
    (FILES, [f"{E}/storage", f"{T}/storage"]),
    (SHARED or S3, [f"{T}/redis_server.py"]),
    (S3, [f"{E}/objects", f"{E}/storage/s3", f"{T}/objects", "docs/scaling.md"]),
    (FILES or REALTIME, [f"{E}/streams", f"{E}/server/chunk_sizes.py", f"{T}/streams"]),
    (FILES or REALTIME, [f"{T}/errors/test_rows.py", f"{T}/observability/test_streams.py"]),
    (REALTIME, [f"{E}/realtime", f"{E}/streams/push.py", f"{E}/server/direct.py", f"{T}/realtime"]),
    (REALTIME, [f"{P}/runs.py", "docs/realtime.md", "docs/runs.md", f"{T}/errors/test_events.py"]),
    (REALTIME, ["tests/test_runs.py", "tests/test_events.py", f"{T}/*/test_direct.py"]),
    (CHAT, [f"{E}/realtime/chat", f"{P}/chat.py", f"{P}/web/chat.js", "docs/chat.md"]),
    (CHAT, ["tests/test_chat.py", f"{T}/realtime/chat", f"{T}/realtime/access/test_chat.py"]),
    (REALTIME and UPLOAD, [f"{E}/realtime/files.py", f"{T}/realtime/**/test_files.py"]),
    (SHARED, [f"{E}/realtime/backends/redis*.py", f"{T}/realtime/**/test_*redis*.py"]),
    (SHARED, [f"{T}/realtime/{name}.py" for name in ("redis", "replicas", "words")]),
    (ERRORS, [f"{E}/errors", f"{T}/errors", "tests/test_errors.py", "docs/problems.md"]),
    (KEYS, [f"{E}/access", f"{P}/access.py", f"{T}/access", f"{T}/realtime/access"]),
    (KEYS, ["tests/test_access.py", "docs/access.md"]),
    (KEYS and S3, [f"{E}/access/bucket.py", f"{T}/access/replicas"]),
    (KEYS and RESUME and DOWNLOAD, [f"{T}/access/files"]),
    (ANSWERS["use_demo_page"], [f"{P}/web", f"{T}/test_web.py"]),
    (ANSWERS["engine_tests"], [T]),
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


def report():
    names = ("upload", "resumable uploads", "download", "real-time", "chat", "problem documents")
    flags = (UPLOAD, RESUME, DOWNLOAD, REALTIME, CHAT, ERRORS)
    print(f"""
{ANSWERS["project_name"]} is ready in {Path.cwd()}
  modules  {", ".join(name for wanted, name in zip(flags, names, strict=True) if wanted)}
  files    {("in a directory or S3" if S3 else "in a directory") if FILES else "none"}
  events   {("in memory or Redis" if SHARED else "in memory") if REALTIME else "none"}
  access   {"API keys; the first start prints one" if KEYS else "no keys; this machine only"}
  yours    tests, {P}: {" ".join(sorted(x.stem for x in Path(P).glob("[a-z]*.py")))}

  cd {ANSWERS["project_slug"]}
  uv run serve     # open the address that it prints
  uv run pytest    # your tests

Without uv: see README.md. To put it under version control: git init
To use the same answers again: cookiecutter {ANSWERS.get("_template", "")} --replay
""")


if __name__ == "__main__":
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # A console may lack some letters of a name.
    prune()
    report()
