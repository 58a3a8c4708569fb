"""`GET /problems`: where the URIs of the types of problems lead, for people."""

from html import escape

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from ..streaming import PROBLEM_TYPES, Problem

router = APIRouter(prefix="/problems", include_in_schema=False)


@router.head("")
@router.get("")
async def index() -> HTMLResponse:
    """List the types of problems that this service has."""
    items = [
        f'<li><a href="{escape(_address(name))}">{escape(kind.title)}</a></li>'
        for name, kind in sorted(PROBLEM_TYPES.items())
    ]
    return _page("Problems", f"<ul>{''.join(items)}</ul>")


@router.head("/{name}")
@router.get("/{name}")
async def describe_type(name: str) -> HTMLResponse:
    """Tell what a type of problem means, and what a client does about it."""
    kind = PROBLEM_TYPES.get(name)
    if kind is None:
        raise Problem(404, "There is no such type of problem.")
    return _page(kind.title, f'<p>{_text(kind.meaning)}</p><p><a href="../problems">All</a></p>')


def _address(name: str) -> str:
    return name if ":" in name else f"problems/{name}"


def _text(meaning: str) -> str:
    """Return text as HTML; what is between backquotes is code."""
    parts = enumerate(escape(meaning).split("`"))
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in parts)


def _page(title: str, content: str) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<h1>{escape(title)}</h1>{content}</html>"
    )
