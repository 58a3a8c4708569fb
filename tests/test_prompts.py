"""Every question has a help text, and an invalid answer is rejected in one line.

The tests run the cookiecutter command, with arguments, a replay file or a terminal.
"""

from pathlib import Path

import pytest

from answers import ASKED, PROMPTS, QUESTIONS
from baking import Project
from command import Terminal, generate, replay
from environment import Environment
from rendering import context_of, hook

NO_IDENTIFIER = "begin with a letter; lower-case letters, digits and '_'"
NO_SLUG = "letters, digits and, except at the ends, '.', '_' and '-'"
NO_MODULE = "use_upload, use_download, use_realtime, use_error_handling: select at least one module"
HIDES = "this name shadows a module that the service imports"
CONTROL = "control characters are not allowed"
NOTHING = [f"{module}=no" for module in ("use_upload", "use_download", "use_realtime")]
NOTHING.append("use_error_handling=no")


@pytest.mark.parametrize("key", ASKED)
def test_every_question_has_a_help_text(key: str) -> None:
    text = PROMPTS[key] if isinstance(PROMPTS[key], str) else PROMPTS[key]["__prompt__"]

    assert len(text) > len("name")
    assert text != key


@pytest.mark.parametrize("key", [key for key in ASKED if isinstance(QUESTIONS[key], list)])
def test_every_choice_has_a_label_and_every_label_a_choice(key: str) -> None:
    assert list(PROMPTS[key]) == ["__prompt__", *QUESTIONS[key]]


def test_no_help_text_has_a_missing_question() -> None:
    assert list(PROMPTS) == ASKED


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        ("package_name=1abc", f"package_name: {NO_IDENTIFIER}: '1abc'"),
        ("package_name=Bad-Name", f"package_name: {NO_IDENTIFIER}: 'Bad-Name'"),
        ("package_name=_private", f"package_name: {NO_IDENTIFIER}: '_private'"),
        ("package_name=naïve", f"package_name: {NO_IDENTIFIER}: 'naïve'"),
        ("package_name=class", "package_name: this is a Python keyword: 'class'"),
        ("package_name=match", "package_name: this is a Python keyword: 'match'"),
        ("package_name=fastapi", f"package_name: {HIDES}: 'fastapi'"),
        ("package_name=asyncio", f"package_name: {HIDES}: 'asyncio'"),
        ("package_name=tests", f"package_name: {HIDES}: 'tests'"),
        ("package_name=nul", "package_name: Windows reserves this name: 'nul'"),
        ("author_email=nobody", "author_email: this is not an email address: 'nobody'"),
        ('author_email="a"@b', "author_email: this is not an email address: '\"a\"@b'"),
        ("project_name= ", "project_name: must not be empty"),
        ("project_name=", "project_name: must not be empty"),
        (
            "project_name=a\x07b",
            "project_name: control characters are not allowed: 'a\\x07b'",
        ),
        ("description=a\nb", "description: control characters are not allowed: 'a\\nb'"),
        (
            "author_name=a\u2028b",
            "author_name: control characters are not allowed: 'a\\u2028b'",
        ),
    ],
)
def test_an_invalid_answer_is_rejected_in_one_line(
    answer: str, refusal: str, template: Path, tmp_path: Path
) -> None:
    done = generate(template, tmp_path / "out", "--no-input", answer)

    assert done.stderr.splitlines() == [f"Refused: {refusal}"]
    assert done.returncode != 0
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("slug", ["a b", "-x", "x.", ".x", "a&b", "naïve"])
def test_a_directory_name_that_is_awkward_somewhere_is_refused(
    slug: str, template: Path, tmp_path: Path
) -> None:
    done = generate(
        template, tmp_path / "out", "--no-input", f"project_slug={slug}", "package_name=good_name"
    )

    assert done.stderr.splitlines() == [f"Refused: project_slug: {NO_SLUG}: {slug!r}"]
    assert done.returncode != 0
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("slug", ["con", "NUL", "com1.service"])
def test_a_directory_name_that_windows_reserves_is_refused(
    slug: str, template: Path, tmp_path: Path
) -> None:
    done = generate(
        template, tmp_path / "out", "--no-input", f"project_slug={slug}", "package_name=good_name"
    )

    assert done.stderr.splitlines() == [
        f"Refused: project_slug: Windows reserves this name: {slug!r}"
    ]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("slug", ["a/b", "../elsewhere", "{elsewhere}/deeper"])
def test_a_path_instead_of_a_directory_name_is_refused(
    slug: str, template: Path, tmp_path: Path
) -> None:
    slug = slug.format(elsewhere=tmp_path / "elsewhere")
    done = generate(
        template, tmp_path / "out", "--no-input", f"project_slug={slug}", "package_name=good_name"
    )

    assert done.stderr.splitlines() == [f"Refused: project_slug: {NO_SLUG}: {slug!r}"]
    # Cookiecutter creates the folders before it runs the hook, and deletes only the last one.
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("slug", ["", ".", ".."])
def test_a_directory_name_that_is_an_existing_folder_ends_without_harm(
    slug: str, template: Path, tmp_path: Path
) -> None:
    work = tmp_path / "out" / "work.txt"
    work.parent.mkdir()
    work.write_text("precious")

    done = generate(
        template, work.parent, "--no-input", f"project_slug={slug}", "package_name=good_name"
    )

    # Cookiecutter itself rejects this answer, before it runs a hook.
    assert "already exists" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode != 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [work]


def test_a_service_without_modules_is_refused_in_one_line(template: Path, tmp_path: Path) -> None:
    done = generate(template, tmp_path / "out", "--no-input", *NOTHING)

    assert done.stderr.splitlines() == [f"Refused: {NO_MODULE}"]
    assert done.returncode != 0


def test_all_problems_are_reported_at_once(template: Path, tmp_path: Path) -> None:
    bad = ["project_slug=a b", "package_name=class", "author_email=x", *NOTHING]

    done = generate(template, tmp_path / "out", "--no-input", *bad)

    assert done.stderr.splitlines() == [
        f"Refused: project_slug: {NO_SLUG}: 'a b'",
        "Refused: package_name: this is a Python keyword: 'class'",
        "Refused: author_email: this is not an email address: 'x'",
        f"Refused: {NO_MODULE}",
    ]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("mark", ["{{ 7 * 7 }}", "# {% if x %}", "{# hidden #}"])
@pytest.mark.parametrize("key", ["project_name", "description", "author_name"])
def test_an_answer_with_template_delimiters_is_rejected(
    key: str, mark: str, template: Path, tmp_path: Path
) -> None:
    context = context_of()
    context["cookiecutter"][key] = mark

    done = replay(template, tmp_path / "out", context, tmp_path)

    assert done.stderr.splitlines() == [
        f"Refused: {key}: template delimiters are not allowed: {mark!r}"
    ]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_package_name_that_a_dependency_uses_is_refused(
    environment: Environment, full: Project
) -> None:
    hidden = environment.modules_needed_by(full)

    accepted = [
        name for name in hidden if not list(hook("pre_gen_project", package_name=name).problems())
    ]

    assert {"fastapi", "starlette", "uvicorn", "websockets"} <= hidden
    assert accepted == []


def test_enter_at_every_question_gives_a_project_and_the_next_steps(
    template: Path, tmp_path: Path
) -> None:
    terminal = Terminal(template, tmp_path)
    terminal.answer()
    code, farewell = terminal.end()

    assert code == 0
    assert (tmp_path / "streaming-service" / "pyproject.toml").is_file()
    for step in (
        f"Streaming Service is ready in {tmp_path / 'streaming-service'}",
        "cd streaming-service",
        "uv run serve",
        "uv run pytest",
        f"cookiecutter {template} --replay",
    ):
        assert step in farewell


def test_typed_answers_are_generated(template: Path, tmp_path: Path) -> None:
    terminal = Terminal(template, tmp_path)
    terminal.answer(
        project_name="Film Archive", license="2", use_upload="n", ci="2", engine_tests="y"
    )
    code, _ = terminal.end()

    project = tmp_path / "film-archive"
    assert code == 0
    assert (project / "src/film_archive/engine/download").is_dir()
    assert not (project / "src/film_archive/engine/upload").exists()
    assert (project / ".gitlab-ci.yml").is_file()
    assert (project / "tests/engine/download").is_dir()


def test_a_typed_answer_with_template_delimiters_is_rejected(
    template: Path, tmp_path: Path
) -> None:
    terminal = Terminal(template, tmp_path / "out")
    terminal.answer(project_name="{{ x }}", project_slug="good", package_name="good")
    code, farewell = terminal.end()

    assert code != 0
    assert "Refused: project_name: template delimiters are not allowed: '{{ x }}'" in farewell
    assert list((tmp_path / "out").iterdir()) == []


def test_the_replay_command_gives_the_same_project_again(template: Path, tmp_path: Path) -> None:
    once = generate(template, tmp_path / "1", "--no-input", "use_upload=no", "project_name=Twice")

    again = generate(template, tmp_path / "2", "--replay")

    assert once.returncode == again.returncode == 0
    first, second = (Project(tmp_path / n / "twice", "twice", {}) for n in "12")
    assert first.files() == second.files()
    for name in first.files():
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()
