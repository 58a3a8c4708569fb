"""Reject invalid answers before any file is written, and report all of them, one line each."""

import json
import keyword
import re
import sys
import unicodedata

ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")

MODULES = ("use_upload", "use_download", "use_realtime", "use_error_handling")
NAMES = ("project_name", "project_slug", "package_name")
TEXTS = (*NAMES, "description", "author_name", "author_email")
#: Modules that the generated service and its tests import, directly or indirectly; a package with
#: the same name would shadow them.
DEPENDENCIES = {
    "aiofiles", "annotated_doc", "annotated_types", "anyio", "backports", "click", "coverage",
    "dotenv", "fastapi", "filetype", "granian", "h11", "httpcore", "httptools", "httpx",
    "hypothesis", "idna", "mypy", "opentelemetry", "prometheus_client", "pydantic",
    "pydantic_core", "pydantic_settings", "pytest", "redis", "ruff", "sortedcontainers",
    "starlette", "structlog", "tests", "typing_extensions", "typing_inspection", "uvicorn",
    "uvloop", "watchfiles", "websockets", "yaml",
}  # fmt: skip
WINDOWS = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def problems():
    """Yield one line for every invalid answer."""
    for key in TEXTS:
        value = ANSWERS[key]
        # The delimiters are composed here, because this file is rendered as well.
        if any("{" + mark in value for mark in "{%#"):
            yield f"{key}: template delimiters are not allowed: {value!r}"
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in value):
            yield f"{key}: control characters are not allowed: {value!r}"
    if not ANSWERS["project_name"].strip():
        yield "project_name: must not be empty"
    slug = ANSWERS["project_slug"]
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", slug):
        yield f"project_slug: letters, digits and, except at the ends, '.', '_' and '-': {slug!r}"
    elif WINDOWS.fullmatch(slug):
        yield f"project_slug: Windows reserves this name: {slug!r}"
    yield from package_problems(ANSWERS["package_name"])
    email = ANSWERS["author_email"]
    if not re.fullmatch(r"[^@\s\"\\<>]+@[^@\s\"\\<>]+", email):
        yield f"author_email: this is not an email address: {email!r}"
    if not any(ANSWERS[module] for module in MODULES):
        yield f"{', '.join(MODULES)}: select at least one module"


def package_problems(package):
    if not re.fullmatch(r"[a-z][a-z0-9_]*", package):
        yield f"package_name: begin with a letter; lower-case letters, digits and '_': {package!r}"
    elif keyword.iskeyword(package) or keyword.issoftkeyword(package):
        yield f"package_name: this is a Python keyword: {package!r}"
    elif package in sys.stdlib_module_names or package in DEPENDENCIES:
        yield f"package_name: this name shadows a module that the service imports: {package!r}"
    elif WINDOWS.fullmatch(package):
        yield f"package_name: Windows reserves this name: {package!r}"


if __name__ == "__main__":
    found = list(problems())
    for line in found:
        print(f"Refused: {line}", file=sys.stderr)
    sys.exit(1 if found else 0)
