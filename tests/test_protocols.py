"""Every requirement in `docs/protocols.md` has a test, or a reason why it has none."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from answers import REPOSITORY
from baking import Project

#: The number of requirements of each protocol, in the order of the page.
PROTOCOLS = {"tus": 92, "draft": 69, "downloads": 68, "websockets": 0}
#: The name of a requirement; those of RFCs consist of RFC and section.
NUMBER = r"[A-Z]\d+|rfc\d+-[\d.]*[a-z]?"
ITEM = re.compile(rf"^\| \**({NUMBER})\**(?: [MSm, ]+)? \|(.*)\|$", re.MULTILINE)
WITHOUT_A_TEST = re.compile(r"left out|left to|nothing to do|does not arise|do not arise")
MARKED = re.compile(r"pytest\.mark\.spec\(([^)]*)\)")


def items(protocol: str) -> dict[str, str]:
    """Return the description of each requirement, by the name that tests use."""
    page = (REPOSITORY / "docs/protocols.md").read_text("utf-8")
    _, *parts = re.split(r"^## ", page, flags=re.MULTILINE)
    part = dict(zip(PROTOCOLS, parts, strict=True))[protocol]
    apart = " ".join(re.findall(r"^Left out.*$", part, re.MULTILINE))
    said: dict[str, str] = dict(ITEM.findall(part))
    return {
        k if k.startswith("rfc") else f"{protocol}-{k}": (
            v + (" left out" if re.search(rf"\b{re.escape(k)}\b", apart) else "")
        )
        for k, v in said.items()
    }


def marked(project: Project) -> Iterator[str]:
    for path in Path(project.path, "tests").rglob("*.py"):
        for names in MARKED.findall(path.read_text("utf-8")):
            yield from re.findall(r'"([^"]+)"', names)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_page_has_every_requirement(protocol: str) -> None:
    assert len(items(protocol)) == PROTOCOLS[protocol]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_requirement_has_a_test_or_a_reason(protocol: str, complete: Project) -> None:
    tested = set(marked(complete))
    without = {k: v for k, v in items(protocol).items() if k not in tested}

    assert {k: v for k, v in without.items() if not WITHOUT_A_TEST.search(v)} == {}


def test_no_test_names_a_requirement_that_is_not_there(complete: Project) -> None:
    known = {name for protocol in PROTOCOLS for name in items(protocol)}

    assert set(marked(complete)) - known == set()
