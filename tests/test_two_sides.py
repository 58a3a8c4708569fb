"""The boundary between the owner's files and the engine.

The matrix checks that the engine is the same in every project, byte for byte. These tests check
that it does not depend on the project, and that the owner's side stays small.
"""

import ast
import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from answers import EVERYTHING, MODULES, OPEN, Answers, only
from baking import ENGINE, Bake, Project, files_below, python_below, tree_of
from environment import Environment
from imports import absolute, leading_out
from rendering import owned

#: The delimiters and variables of a template.
MARKS = re.compile(r"\{\{|\{%|\{#|cookiecutter\.")
#: Words of a project that stores files in S3.
OF_S3 = re.compile(r"(?i)\bs3\b|boto|\bmoto\b|seaweed|\baws_")
#: Parts of the engine, with answers that do not generate them.
WITHOUT: dict[str, Answers] = {
    "access": {"auth": "none"},
    "download": only("use_upload"),
    "errors": only("use_upload"),
    "objects": only("use_upload"),
    "realtime": only("use_upload"),
    "realtime.backends.redis": only("use_realtime"),
    "realtime.chat": only("use_realtime"),
    "realtime.files": only("use_realtime"),
    "storage": only("use_realtime"),
    "storage.s3": only("use_upload"),
    "streams": only("use_error_handling"),
    "upload": only("use_download"),
    "upload.resumable": only("use_upload") | {"resumable_uploads": False},
}


#: Lines of Python in the engine with every module, and with error handling alone.
FULL_ENGINE, SMALL_ENGINE = 21_900, 7_600
#: Lines of the access control, of the formats of a chat, and of what several machines share.
ACCESS, CHAT, S3 = 1_150, 820, 3_775


@pytest.fixture(scope="module")
def engine(template: Path) -> Path:
    return template / ENGINE


def lines_of(paths: Iterable[Path]) -> int:
    return sum(len(path.read_text("utf-8").splitlines()) for path in paths)


def owner_s_lines(project: Project) -> int:
    """Count the lines of Python in the package outside of the engine."""
    return lines_of(path for path in python_below(project.src) if "engine" not in path.parts)


def explained(engine: Path) -> dict[str, str]:
    """Return the answer that adds each part, from the error message for missing parts."""
    for node in tree_of(engine / "_missing.py").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ANSWERS":
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    raise AssertionError("the engine explains nothing")


def test_the_engine_has_no_mark_of_a_template(engine: Path) -> None:
    marked = [
        f"{path.relative_to(engine)}:{number}: {line}"
        for path in files_below(engine)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if MARKS.search(line)
    ]

    assert marked == []


def test_no_import_of_the_engine_leads_out_of_it(engine: Path) -> None:
    assert list(leading_out(engine)) == []


def test_the_engine_imports_its_own_modules_relatively(engine: Path, full: Project) -> None:
    assert {path.name for path in python_below(engine) if full.package in absolute(path)} == set()


def test_the_owner_s_side_is_small_with_every_module(full: Project) -> None:
    app = (full.src / "app.py").read_text("utf-8")

    assert 0 < owner_s_lines(full) <= 1_000
    assert len(app.splitlines()) <= 60


@pytest.mark.parametrize("module", MODULES)
def test_the_owner_s_side_is_smaller_with_one_module(module: str, bake: Bake) -> None:
    assert 0 < owner_s_lines(bake(**only(module))) <= 300


@pytest.mark.parametrize(
    ("answers", "limit"),
    [
        (OPEN | {"use_chat": False, "storage": "local"}, FULL_ENGINE),
        (only("use_error_handling") | {"auth": "none"}, SMALL_ENGINE),
    ],
)
def test_the_engine_does_not_grow(answers: Answers, limit: int, bake: Bake) -> None:
    assert 0 < lines_of(python_below(bake(**answers).src / "engine")) <= limit


def test_the_access_control_does_not_grow(complete: Project) -> None:
    access = complete.src / "engine/access"
    own = [path for path in python_below(access) if path.name != "bucket.py"]
    assert 0 < lines_of(own) <= ACCESS


def test_what_several_machines_share_does_not_grow(complete: Project) -> None:
    engine = complete.src / "engine"
    folders = [engine / "objects", engine / "storage/s3"]
    paths = [path for folder in folders for path in python_below(folder)]
    assert 0 < lines_of([*paths, engine / "access/bucket.py"]) <= S3


def test_the_formats_of_a_chat_do_not_grow(full: Project) -> None:
    assert 0 < lines_of(python_below(full.src / "engine/realtime/chat")) <= CHAT


def test_a_project_with_every_module_is_no_more_than_232_files(bake: Bake) -> None:
    files = bake(**OPEN | {"engine_tests": False}).files()
    assert len(files) <= 232
    assert sum("s3" not in path and "objects" not in path for path in files) <= 215


@pytest.mark.parametrize(
    "answers",
    [
        *(only(module) for module in MODULES),
        only("use_realtime", "use_error_handling") | {"storage": "s3"},
        {"broker": "redis", "use_chat": True},
    ],
    ids=str,
)
def test_a_project_without_s3_has_nothing_of_it(answers: Answers, bake: Bake) -> None:
    project = bake(**answers, engine_tests=True)
    engine, tests = project.src / "engine", project.path / "tests/engine"
    metadata = project.metadata
    declared = [*metadata["project"]["dependencies"], *metadata["dependency-groups"]["dev"]]

    named = {
        path.relative_to(project.path).as_posix()
        for path in files_below(project.path)
        if not path.is_relative_to(engine) and not path.is_relative_to(tests)
        if OF_S3.search(path.read_text("utf-8"))
    }
    assert [each for each in declared if OF_S3.search(each)] == []
    assert named == set()
    assert not (engine / "objects").exists()
    assert not (engine / "storage/s3").exists()


def test_a_project_with_every_answer_is_generated_in_a_second(bake: Bake, tmp_path: Path) -> None:
    def seconds(number: int) -> float:
        before = os.times()
        bake(tmp_path / str(number), **EVERYTHING)
        return sum(os.times()[:4]) - sum(before[:4])

    # The time of the processor, which other processes of a busy machine do not prolong.
    assert 0 < min(seconds(number) for number in range(3)) < 1


def test_a_folder_of_the_engine_that_may_be_missing_is_explained(engine: Path) -> None:
    inside = "src/streaming_service/engine/"
    folders = {
        path.removeprefix(inside).replace("/", ".")
        for _, paths in owned()
        for path in paths
        if path.startswith(inside) and not path.endswith(".py")
    }

    assert "upload" in folders
    assert folders <= set(explained(engine)) == set(WITHOUT)


@pytest.mark.parametrize("part", WITHOUT)
def test_the_import_of_a_missing_part_names_the_answer_that_adds_it(
    part: str, bake: Bake, environment: Environment, engine: Path
) -> None:
    project = bake(**WITHOUT[part])
    module = f"{project.package}.engine.{part}"

    done = environment.run(project, "python", "-c", f"import {module}")

    assert done.returncode == 1
    assert (
        f"ModuleNotFoundError: {module} is not in this project: it comes with the answer "
        f"{explained(engine)[part]} "
    ) in done.stdout


def test_a_part_that_is_there_is_imported(complete: Project, environment: Environment) -> None:
    imports = "; ".join(f"import {complete.package}.engine.{part}" for part in WITHOUT)

    assert environment.run(complete, "python", "-c", imports).returncode == 0
