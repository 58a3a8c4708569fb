"""The OpenAPI document describes the service correctly."""

import re

import pytest

from {{cookiecutter.package_name}}.app import create_app

from .service import Service, make_settings

PATHS = create_app(make_settings()).openapi()["paths"]


def test_no_two_paths_differ_in_the_names_of_their_parameters_alone() -> None:
    shapes = [re.sub(r"{.*?}", "*", path) for path in PATHS]
    assert sorted(shapes) == sorted(set(shapes))


@pytest.mark.parametrize("path", PATHS)
async def test_a_path_allows_what_is_documented_and_nothing_else(
    service: Service, path: str
) -> None:
    async with service.client() as client:
        answer = await client.options(re.sub(r"{.*?}", "a", path))
    allowed = {each.lower() for each in answer.headers["allow"].split(", ")}
    assert allowed - {"head", "options"} == PATHS[path].keys() - {"head", "options"}


def test_the_streams_of_events_and_lines_tell_what_their_items_are() -> None:
    contents = [
        response.get("content", {})
        for operations in PATHS.values()
        for operation in operations.values()
        for response in operation["responses"].values()
    ]
    streams = [
        media
        for content in contents
        for kind, media in content.items()
        if kind in ("application/jsonl", "text/event-stream")
    ]
    assert all(media.keys() == {"itemSchema"} for media in streams)
