"""docs/problems.md of a project lists all problem types of the source."""

import json
from pathlib import Path

from answers import REPOSITORY
from baking import TEMPLATE_FOLDER, Project
from environment import Environment

PAGE = REPOSITORY / TEMPLATE_FOLDER / "docs/problems.md"
#: The rows after this line of the page are generated from the source.
HEAD = "|---|---|---|\n"
SCRIPT = Path(__file__).with_name("problem_types.py")


def test_the_page_has_every_type_of_problem_as_the_source_declares_it(
    complete: Project, environment: Environment
) -> None:
    listed = environment.run(complete, "python", str(SCRIPT), complete.package).stdout
    rows = [
        f"| {_name(name)} | {', '.join(map(str, statuses))} | **{title}.** {meaning} |\n"
        for name, (title, meaning, statuses) in sorted(json.loads(listed).items())
    ]
    text = PAGE.read_text("utf-8")
    made = REPOSITORY / "build/problems.md"
    made.write_text(text.partition(HEAD)[0] + HEAD + "".join(rows), "utf-8")

    assert len(rows) > 20
    assert all(" |  | " not in row for row in rows), "a type that nothing raises"
    same = text == made.read_text("utf-8")
    assert same, f"the source says something else: copy {made} to {PAGE}"


def _name(name: str) -> str:
    return f"[`{name.partition('#')[2]}`]({name})" if ":" in name else f"`{name}`"
