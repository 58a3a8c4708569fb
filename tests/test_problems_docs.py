"""docs/problems.md has all types of problems of a full service, as the source declares them."""

import json
from pathlib import Path

from answers import REPOSITORY
from baking import Project
from environment import Environment

PAGE = REPOSITORY / "docs/problems.md"
SCRIPT = Path(__file__).with_name("problem_types.py")
BEGINNING = """\
# Types of problems

Every error is a document of RFC 9457. Its `type` is `about:blank` where the status says all; else it is one of these, behind the address of the
service (`/problems/too-large`, or `https://files.example.com/problems/too-large` with `APP_SERVER__PUBLIC_URL`), where it leads to the same
words. `detail` is for people and may change, types and members do not. A service has the types of the modules that it has.

Members of every document: `type`, `title`, `status`, `detail`, `instance` (the path), `request_id` (also in `X-Request-ID` and in the log), and
`trace_id` when the request had a `traceparent`. Streams that fail half-way end with the same document: `{"$error": …}` in JSON Lines,
`event: error` in event streams, `{"type": "error", "problem": …}` on a WebSocket.

| type | status | what it means, and what to do |
|---|---|---|
"""


def test_the_page_has_every_type_of_problem_as_the_source_declares_it(
    full: Project, environment: Environment
) -> None:
    listed = environment.run(full, "python", str(SCRIPT), full.package).stdout
    rows = [
        f"| {_name(name)} | {', '.join(map(str, statuses))} | **{title}.** {meaning} |\n"
        for name, (title, meaning, statuses) in sorted(json.loads(listed).items())
    ]
    expected = REPOSITORY / "build/problems.md"
    expected.write_text(BEGINNING + "".join(rows), "utf-8")

    assert all(" |  | " not in row for row in rows), "a type that nothing raises"
    same = PAGE.read_text("utf-8") == expected.read_text("utf-8")
    assert same, f"the source says something else: copy {expected} to {PAGE}"


def _name(name: str) -> str:
    return f"[`{name.partition('#')[2]}`]({name})" if ":" in name else f"`{name}`"
