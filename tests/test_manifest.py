"""The files that belong to each answer, and the limits for all files.

The table of the post-generation hook is compared with the tree: every path in it exists, and every
file is in it or in the core.
"""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from answers import EVERYTHING, MODULES, REPOSITORY, Answers, only
from baking import TEMPLATE_FOLDER, Bake, Project, files_below, python_below, tree_of
from rendering import hook, owned

#: The files of every project. Add new files here or to the table of the hook.
CORE = {
    ".editorconfig", ".env.example", ".gitattributes", ".gitignore", ".pre-commit-config.yaml",
    "LICENSE", "README.md", "SECURITY.md", "AGENTS.md", "CLAUDE.md", "pyproject.toml",
    "deploy/nginx.conf",
    "docs/extending.md", "docs/observability.md", "docs/operations.md", "docs/protocols.md",
    "docs/troubleshooting.md",
    *(
        f"src/streaming_service/{name}"
        for name in ("__init__.py", "__main__.py", "app.py", "settings.py")
    ),
    *(
        f"src/streaming_service/engine/{name}"
        for name in (
            "README.md", "__init__.py", "_missing.py", "check", "docs.py", "edge.py", "kernel",
            "observability", "openapi.py", "server", "service.py", "settings.py", "sources.py",
            "testing.py",
        )
    ),
    "tests/__init__.py", "tests/conftest.py", "tests/test_app.py",
}  # fmt: skip
#: The folders of the engine that each module needs.
FOLDERS = {
    "use_upload": {"upload", "storage", "streams"},
    "use_download": {"download", "storage", "streams"},
    "use_realtime": {"realtime", "streams"},
    "use_error_handling": {"errors"},
}


def generated(*folders: str) -> set[str]:
    """Return the paths of all files of the template in these folders of a project."""
    root, package = REPOSITORY / TEMPLATE_FOLDER, "{{cookiecutter.package_name}}"
    return {
        path.relative_to(root).as_posix().replace(package, "streaming_service")
        for folder in folders
        for path in files_below(root / folder.replace("streaming_service", package))
    }


#: The files of a shared broker.
REDIS = {
    *("tests/engine/realtime/replicas.py", "tests/engine/realtime/words.py"),
    *(
        path
        for path in generated("src/streaming_service/engine/realtime", "tests/engine/realtime")
        if "redis" in path
    ),
}
#: The files of a store in S3.
S3 = {
    "docs/scaling.md",
    "src/streaming_service/engine/access/bucket.py",
    *generated(
        "src/streaming_service/engine/objects",
        "src/streaming_service/engine/storage/s3",
        "tests/engine/access/replicas",
        "tests/engine/objects",
    ),
}
#: The files of the access control.
ACCESS = {
    "docs/access.md",
    "src/streaming_service/access.py",
    "tests/test_access.py",
    *generated(
        "src/streaming_service/engine/access",
        "tests/engine/access",
        "tests/engine/realtime/access",
    ),
}
#: The files of the chat.
CHAT = {
    "docs/chat.md",
    "src/streaming_service/chat.py",
    "src/streaming_service/web/chat.js",
    "tests/test_chat.py",
    "tests/engine/realtime/access/test_chat.py",
    *generated("src/streaming_service/engine/realtime/chat", "tests/engine/realtime/chat"),
}
NOTHING_ELSE: Answers = {"use_demo_page": False, "use_docker": False, "ci": "none"}

#: Names that cannot be checked out on Windows.
WINDOWS = re.compile(r'(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*[<>:"|?*\\].*|.*[. ]')
#: Hosts of package registries, and paths of one machine. Split, so that this file can be searched,
#: too.
FOREIGN = [
    "".join(pieces)
    for pieces in [
        ("pypi", ".org"), ("python", "hosted"), ("npm", "js.org"), ("npm", "js.com"),
        ("ghcr", ".io"), ("docker", ".io"), ("quay", ".io"), ("deb.debian", ".org"),
        ("/", "work/"), ("shared", "/"),
    ]
]  # fmt: skip


@pytest.fixture(scope="module")
def everything(complete: Project, bake_once: Bake) -> set[str]:
    """Return all paths of all projects; no project has two kinds of CI."""
    return complete.files() | bake_once(**EVERYTHING, ci="gitlab").files()


def below(path: str, entry: str) -> bool:
    """Return whether an entry is a path, one of its folders, or a pattern of either."""
    pattern = entry.replace("**/", "*")
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*")


def table() -> list[str]:
    return [path for _, paths in owned() for path in paths]


def test_every_path_of_the_table_is_in_the_full_project(everything: set[str]) -> None:
    missing = [entry for entry in table() if not any(below(path, entry) for path in everything)]

    assert missing == []


def test_every_core_path_is_in_the_full_project(everything: set[str]) -> None:
    missing = [entry for entry in CORE if not any(below(path, entry) for path in everything)]

    assert missing == []


def test_every_file_belongs_to_a_row_of_the_table_or_to_the_core(everything: set[str]) -> None:
    entries = [*table(), *CORE]
    unowned = [path for path in everything if not any(below(path, entry) for entry in entries)]

    assert unowned == []


def test_no_path_belongs_to_two_rows_or_to_a_row_and_the_core() -> None:
    rows = table()

    assert sorted(set(rows)) == sorted(rows)
    assert [core for core in CORE if any(below(core, row) for row in rows)] == []


@pytest.mark.parametrize("engine_tests", [True, False], ids=["engine tests", "no engine tests"])
@pytest.mark.parametrize("module", MODULES)
def test_one_module_alone_is_the_core_and_its_files(
    module: str, engine_tests: bool, bake: Bake, everything: set[str]
) -> None:
    answers = only(module) | NOTHING_ELSE | {"engine_tests": engine_tests}
    unwanted = [path for wanted, paths in owned(**answers) for path in paths if not wanted]

    project = bake(**answers)

    kept = {path for path in everything if not any(below(path, entry) for entry in unwanted)}
    assert project.files() == kept
    folders = {path.name for path in (project.src / "engine").iterdir() if path.is_dir()}
    assert folders == {"access", "check", "kernel", "observability", "server"} | FOLDERS[module]


@pytest.mark.parametrize(
    ("answer", "paths"),
    [
        ({"auth": "none"}, ACCESS),
        (
            {"use_docker": False},
            {"Dockerfile", ".dockerignore", "compose.yaml", "compose.replicas.yaml"},
        ),
        ({"ci": "none"}, {".github/workflows/ci.yml", ".github/dependabot.yml"}),
        ({"storage": "local"}, S3 | {"compose.replicas.yaml"}),
        ({"broker": "memory"}, REDIS | {"compose.replicas.yaml"}),
        ({"use_chat": False}, CHAT),
    ],
)
def test_a_file_of_an_answer_is_missing_without_it(
    answer: Answers, paths: set[str], bake: Bake, complete: Project
) -> None:
    assert complete.files() - bake(**EVERYTHING | answer).files() == paths


def test_a_project_has_no_empty_folder(bake: Bake) -> None:
    project = bake(**only("use_realtime"), **NOTHING_ELSE)

    assert [folder for folder in project.path.rglob("*/") if not any(folder.iterdir())] == []


def test_the_hooks_mean_the_same_modules() -> None:
    assert hook("pre_gen_project").MODULES == MODULES


def test_the_post_generation_hook_fits_on_a_screen_or_two() -> None:
    assert len((REPOSITORY / "hooks/post_gen_project.py").read_text("utf-8").splitlines()) <= 80


@pytest.fixture(params=["repository", "project"])
def tree(request: pytest.FixtureRequest, complete: Project) -> Path:
    """The repository, and the complete project generated from it."""
    return {"repository": REPOSITORY, "project": complete.path}[request.param]


def test_no_python_file_is_longer_than_500_lines(tree: Path) -> None:
    lengths = {
        str(path.relative_to(tree)): len(path.read_text("utf-8").splitlines())
        for path in python_below(tree)
    }

    assert {path: length for path, length in lengths.items() if length > 500} == {}


def test_no_function_is_longer_than_45_lines(tree: Path) -> None:
    long = {
        f"{path.relative_to(tree)}: {function.name}": length
        for path, function in functions_below(tree)
        if (length := length_of(function, path)) > 45
    }

    assert long == {}


def length_of(function: ast.FunctionDef | ast.AsyncFunctionDef, path: Path) -> int:
    """Count the lines of a function, without the tags of the template, which no project has."""
    lines = path.read_text("utf-8").splitlines()[function.lineno - 1 : function.end_lineno]
    return sum(not line.lstrip().startswith("# {%") for line in lines)


def functions_below(
    tree: Path,
) -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in python_below(tree):
        # The tests of the template are Python only after rendering; the project contains them.
        if not path.is_relative_to(REPOSITORY / TEMPLATE_FOLDER / "tests"):
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield path, node


def test_every_path_can_be_checked_out_on_windows(tree: Path) -> None:
    paths = [path.relative_to(tree) for path in files_below(tree)]

    assert [path for path in paths if any(map(WINDOWS.fullmatch, path.parts))] == []
    assert len({str(path).casefold() for path in paths}) == len(paths)


def test_nothing_names_a_registry_or_a_place_of_one_machine(tree: Path) -> None:
    found = {
        f"{path.relative_to(tree)}: {name}"
        for path in files_below(tree)
        for name in FOREIGN
        if name in path.read_text("utf-8", errors="replace")
    }

    assert found == set()
