"""Names are refused in one line each, or give a project that ruff accepts."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from answers import EVERYTHING
from baking import bake
from rendering import hook
from tools import run

EXAMPLES = 200 if "SOAK" in os.environ else 4

#: Without control characters, which are always refused, and without braces, which cookiecutter
#: would render before it runs the hook.
TEXT = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="{")
ANSWERS = st.fixed_dictionaries(
    {
        "project_name": st.text(TEXT, min_size=1, max_size=110),
        "project_slug": st.from_regex(
            r"[A-Za-z0-9]([A-Za-z0-9._-]{0,60}[A-Za-z0-9])?", fullmatch=True
        ),
        "package_name": st.from_regex(r"[a-z][a-z0-9_]{0,41}", fullmatch=True),
        "description": st.text(TEXT, max_size=510),
        "author_name": st.text(TEXT, max_size=110),
    }
)
USUAL = {"project_name": "Long", "project_slug": "long"}


@pytest.mark.fault("G32")
@given(answers=ANSWERS)
@example(answers=USUAL | {"package_name": "p"})
@example(answers=USUAL | {"package_name": "p" * 40})
@example(answers=USUAL | {"package_name": "quoted", "project_name": '"double"', "description": "'"})
@example(answers=USUAL | {"package_name": "quoted", "description": "Α description " * 30})  # noqa: RUF001
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="SOAK" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_names_give_a_clean_project_or_are_refused_in_one_line_each(
    answers: dict[str, str],
    template: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    refusals = list(hook("pre_gen_project", **answers).problems())
    if refusals:
        assert [line for line in refusals if len(line.splitlines()) != 1] == []
    else:
        project = bake(template, tmp_path_factory.mktemp("names"), **EVERYTHING | answers)
        assert run("ruff", "check", "--no-cache", project.path).code == 0
        assert run("ruff", "format", "--check", "--no-cache", project.path).code == 0
        shutil.rmtree(project.path)
