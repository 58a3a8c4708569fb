"""Render hooks for given answers, and load them without running them."""

from types import ModuleType
from typing import Any

from cookiecutter.generate import generate_context
from cookiecutter.prompt import prompt_for_config
from cookiecutter.utils import create_env_with_context

from answers import REPOSITORY, Answer

HOOKS = REPOSITORY / "hooks"


def context_of(**answers: Answer) -> dict[str, Any]:
    """Return the context of cookiecutter for answers, which is the content of a replay file."""
    context = generate_context(str(REPOSITORY / "cookiecutter.json"), extra_context=dict(answers))
    context["cookiecutter"].update(prompt_for_config(context, no_input=True))
    return dict(context)


def rendered(name: str, **answers: Answer) -> str:
    """Return the rendered text of a hook."""
    context = context_of(**answers)
    template = create_env_with_context(context).from_string((HOOKS / name).read_text("utf-8"))
    return str(template.render(**context))


def hook(name: str, **answers: Answer) -> ModuleType:
    module = ModuleType(name)
    exec(compile(rendered(f"{name}.py", **answers), name, "exec"), module.__dict__)  # noqa: S102
    return module


def owned(**answers: Answer) -> list[tuple[bool, list[str]]]:
    """Return the table of the post-generation hook: conditions and paths."""
    rows: list[tuple[bool, list[str]]] = hook("post_gen_project", **answers).OWNED
    return rows
