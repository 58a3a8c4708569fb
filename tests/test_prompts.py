"""Every question has a help text, and an invalid answer is rejected in one line.

The tests run the cookiecutter command, with arguments, a replay file or a terminal.
"""

import re
import shlex
import subprocess
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
ITSELF = "the service depends on a package of this name"
LEFT_OUT = "linters and build tools leave out folders of this name"
CONTROL = "control characters are not allowed"
AGAIN = "Edit this command, and run it to be asked again:"
NOTHING = [f"{module}=no" for module in ("use_upload", "use_download", "use_realtime")]
NOTHING.append("use_error_handling=no")


def refusals(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """Return the lines that refuse answers, without the command after them."""
    *lines, hint, command = done.stderr.splitlines()
    assert (hint, command.split()[0]) == (AGAIN, "cookiecutter")
    return lines


#: Modules and choices that few services need, so they are not recommended.
SPECIAL = {"use_chat", "engine_tests", "ci", "license"}


def help_of(key: str) -> list[str]:
    """Return the help of a question, and the labels of its choices."""
    text = PROMPTS[key]
    return [text] if isinstance(text, str) else list(text.values())


@pytest.mark.parametrize("key", ASKED)
def test_every_question_is_a_line_with_an_aligned_help(key: str) -> None:
    question, *choices = help_of(key)
    before = f"  [{ASKED.index(key) + 1}/{len(ASKED)}] "
    line = f"{before}{question} [y/n] (y): "

    assert (line[19], line[20].isspace()) == (" ", False)
    assert all((text[12], text[13].isspace()) == (" ", False) for text in choices)
    # No line is broken in a terminal of 80 columns.
    assert len(line) < 80
    assert all(len(f"    1 - {choice}") <= 80 for choice in choices)


@pytest.mark.parametrize("key", [key for key in ASKED if isinstance(QUESTIONS[key], bool)])
def test_every_module_names_what_is_lost_without_it(key: str) -> None:
    (line,) = help_of(key)

    assert "without it, " in line
    assert line.endswith(" (recommended)") == (key not in SPECIAL) == QUESTIONS[key]


@pytest.mark.parametrize(
    "key", [key for key in ASKED if isinstance(QUESTIONS[key], list) and key not in SPECIAL]
)
def test_the_recommended_choice_is_the_default(key: str) -> None:
    _, first, *others = help_of(key)

    assert first.endswith(" (recommended)")
    assert not any("recommended" in other for other in others)


def test_a_question_follows_the_one_on_which_it_depends() -> None:
    for earlier, later in [
        ("project_name", "project_slug"),
        ("project_slug", "package_name"),
        ("use_upload", "resumable_uploads"),
        ("use_upload", "storage"),
        ("use_download", "storage"),
        ("use_realtime", "broker"),
        ("use_realtime", "use_chat"),
    ]:
        assert ASKED.index(earlier) < ASKED.index(later)
    # The modules and their variants come before the names of the author and the licence.
    assert ASKED.index("use_demo_page") < ASKED.index("author_name") < ASKED.index("license")


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
        ("package_name=build", f"package_name: {LEFT_OUT}: 'build'"),
        ("project_slug=cfgv", f"project_slug: {ITSELF}: 'cfgv'"),
        ("project_slug=Import.Linter", f"project_slug: {ITSELF}: 'Import.Linter'"),
        (f"project_name={'n' * 101}", f"project_name: 100 characters at most: '{'n' * 101}'"),
        (f"package_name={'p' * 41}", f"package_name: 40 characters at most: '{'p' * 41}'"),
        (f"project_slug={'s' * 61}", f"project_slug: 60 characters at most: '{'s' * 61}'"),
        (f"project_slug={'s' * 300}", f"project_slug: 60 characters at most: '{'s' * 61}'"),
        (f"author_name={'a' * 300}", f"author_name: 100 characters at most: '{'a' * 300}'"),
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

    assert refusals(done) == [f"Refused: {refusal}"]
    assert done.returncode != 0
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("slug", ["a b", "-x", "x.", ".x", "a&b", "naïve"])
def test_a_directory_name_that_is_awkward_somewhere_is_refused(
    slug: str, template: Path, tmp_path: Path
) -> None:
    done = generate(
        template, tmp_path / "out", "--no-input", f"project_slug={slug}", "package_name=good_name"
    )

    assert refusals(done) == [f"Refused: project_slug: {NO_SLUG}: {slug!r}"]
    assert done.returncode != 0
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("slug", ["con", "NUL", "com1.service"])
def test_a_directory_name_that_windows_reserves_is_refused(
    slug: str, template: Path, tmp_path: Path
) -> None:
    done = generate(
        template, tmp_path / "out", "--no-input", f"project_slug={slug}", "package_name=good_name"
    )

    assert refusals(done) == [f"Refused: project_slug: Windows reserves this name: {slug!r}"]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("slug", ["a/b", "../elsewhere"])
def test_a_path_instead_of_a_directory_name_is_refused(
    slug: str, template: Path, tmp_path: Path
) -> None:
    done = generate(
        template, tmp_path / "out", "--no-input", f"project_slug={slug}", "package_name=good_name"
    )

    assert refusals(done) == [f"Refused: project_slug: {NO_SLUG}: {slug!r}"]
    # Cookiecutter creates the folders before it runs the hook, and deletes only the last one.
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_long_path_instead_of_a_directory_name_is_refused(template: Path, tmp_path: Path) -> None:
    slug = f"{tmp_path}/{'deep/' * 99}"
    done = generate(
        template, tmp_path / "out", "--no-input", f"project_slug={slug}", "package_name=good_name"
    )

    cut = slug.replace("/", "")[:61]
    assert refusals(done)[:1] == [f"Refused: project_slug: 60 characters at most: {cut!r}"]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    assert list((tmp_path / "out").iterdir()) == []


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

    assert refusals(done) == [f"Refused: {NO_MODULE}"]
    assert done.returncode != 0


def test_all_problems_are_reported_at_once(template: Path, tmp_path: Path) -> None:
    bad = ["project_slug=a b", "package_name=class", "author_email=x", *NOTHING]

    done = generate(template, tmp_path / "out", "--no-input", *bad)

    assert refusals(done) == [
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

    assert refusals(done) == [f"Refused: {key}: template delimiters are not allowed: {mark!r}"]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("answer", ["no", "", 0, None])
def test_an_answer_that_is_neither_yes_nor_no_is_refused(
    answer: object, template: Path, tmp_path: Path
) -> None:
    context = context_of()
    context["cookiecutter"]["use_realtime"] = answer  # As cookiecutter 2.6 gives `use_realtime=no`.

    done = replay(template, tmp_path / "out", context, tmp_path)

    assert refusals(done) == [
        f"Refused: use_realtime: neither yes nor no; is cookiecutter older than 2.7? {answer!r}"
    ]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_refusal_ends_with_the_command_that_asks_again_with_all_answers(
    template: Path, tmp_path: Path
) -> None:
    answers = {
        "project_name": "It's \"7\" $HOME", "project_slug": "good", "package_name": "class",
        "license": "Apache-2.0", "use_upload": "no", "ci": "none", "engine_tests": "yes",
    }  # fmt: skip
    given = [f"{key}={value}" for key, value in answers.items()]
    done = generate(template, tmp_path / "out", "--no-input", *given)

    command, *words = shlex.split(done.stderr.splitlines()[-1])
    assert command == "cookiecutter"
    assert words[:3] == [str(template), "--output-dir", str(tmp_path / "out")]
    assert [word.partition("=")[0] for word in words[3:]] == ASKED
    assert set(given) <= set(words)
    words.remove("package_name=class")
    again = generate(template, tmp_path / "out", "--no-input", "package_name=good", *words[3:])
    assert again.returncode == 0
    assert (tmp_path / "out/good/src/good/engine/realtime").is_dir()
    assert not (tmp_path / "out/good/src/good/engine/upload").exists()


@pytest.mark.parametrize(
    ("answers", "note"),
    [
        (["broker=redis", "use_realtime=no"], "broker=redis has no effect without use_realtime"),
        (
            ["resumable_uploads=no", "use_upload=no"],
            "resumable_uploads=no has no effect without use_upload",
        ),
        (["use_chat=yes", "use_realtime=no"], "use_chat=yes has no effect without use_realtime"),
        (
            ["storage=s3", "use_upload=no", "use_download=no"],
            "storage=s3 has no effect without use_upload or use_download",
        ),
        (["use_upload=no"], None),
        (["use_realtime=no"], None),
        (["storage=s3"], None),
        (["storage=s3", "use_upload=no"], None),
        (["storage=s3", "use_download=no"], None),
        (["broker=redis"], None),
        (["use_chat=yes"], None),
    ],
)
def test_an_answer_without_effect_is_reported_in_one_line(
    answers: list[str], note: str | None, template: Path, tmp_path: Path
) -> None:
    done = generate(template, tmp_path / "out", "--no-input", *answers)

    assert done.returncode == 0
    assert re.findall("^Note: (.*)$", done.stdout, re.MULTILINE) == ([note] if note else [])


def test_a_long_name_is_cut_for_the_names_that_come_from_it(template: Path, tmp_path: Path) -> None:
    done = generate(template, tmp_path / "out", "--no-input", f"project_name={'Long name ' * 9}")

    assert done.returncode == 0
    (project,) = (tmp_path / "out").iterdir()
    assert len(project.name) <= 40
    assert (project / "src" / project.name.replace("-", "_") / "app.py").is_file()


def test_the_name_of_a_package_that_is_installed_with_a_service_is_refused(
    environment: Environment,
) -> None:
    accepted = [
        name
        for name in environment.installed
        if not list(hook("pre_gen_project", project_slug=name).slug_problems(name))
    ]

    assert {"fastapi", "pytest"} <= environment.installed.keys()
    assert accepted == []


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
        "modules  upload, resumable uploads, download, real-time, problem documents\r\n",
        "files    in a directory\r\n",
        "events   in memory\r\n",
        "access   API keys; the first start prints one\r\n",
        "src/streaming_service: access app exports files ingest runs settings transforms\r\n",
        "cd streaming-service",
        "uv run serve",
        "uv run pytest",
        f"cookiecutter {template} --replay",
    ):
        assert step in farewell


@pytest.mark.parametrize(
    ("answers", "lines"),
    [
        (
            ["storage=s3", "broker=redis", "auth=none", "use_chat=yes"],
            [
                "modules  upload, resumable uploads, download, real-time, chat, problem documents",
                "files    in a directory or S3",
                "events   in memory or Redis",
                "access   no keys; this machine only",
            ],
        ),
        (
            ["use_upload=no", "use_download=no", "use_realtime=no", "storage=s3", "broker=redis"],
            ["modules  problem documents", "files    none", "events   none"],
        ),
    ],
    ids=["everything", "errors"],
)
def test_the_summary_states_the_generated_parts(
    answers: list[str], lines: list[str], template: Path, tmp_path: Path
) -> None:
    done = generate(template, tmp_path, "--no-input", *answers)

    assert set(lines) <= {line.strip() for line in done.stdout.splitlines()}


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
    assert f"cookiecutter {template} --output-dir" in farewell
    assert list((tmp_path / "out").iterdir()) == []


def test_the_replay_command_gives_the_same_project_again(template: Path, tmp_path: Path) -> None:
    once = generate(template, tmp_path / "1", "--no-input", "use_upload=no", "project_name=Twice")

    again = generate(template, tmp_path / "2", "--replay")

    assert once.returncode == again.returncode == 0
    first, second = (Project(tmp_path / n / "twice", "twice", {}) for n in "12")
    assert first.files() == second.files()
    for name in first.files():
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()
