"""The headers that describe a body: codings in any line, and the cost of parameters."""

from typing import Any
from urllib.parse import quote

import pytest
from fastapi import APIRouter, Depends

from {{cookiecutter.package_name}}.engine.kernel import whole_request
from {{cookiecutter.package_name}}.engine.streams import refuse_coding
from {{cookiecutter.package_name}}.engine.streams.content import parameters

from ..service import Service
from ..test_fields import F5, answer

router = APIRouter()


@router.post("/fields", dependencies=[Depends(refuse_coding), Depends(whole_request)])
async def fields() -> None:
    pass


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["identity", "gzip"], marks=F5),
        ["identity, gzip"],
        ["gzip", "identity"],
        ["", "gzip"],
    ],
)
async def test_no_line_hides_the_coding_of_another(serve: Any, lines: list[str]) -> None:
    service: Service = await serve(router)
    answered = await answer(service, *(f"Content-Encoding: {line}" for line in lines))
    assert answered.startswith("HTTP/1.1 415 ")


@pytest.mark.parametrize(
    "lines",
    [
        ["identity", "identity"],
        pytest.param(["Identity, identity "], marks=F5),
        pytest.param([""], marks=F5),
    ],
)
async def test_what_is_not_encoded_may_be_said_in_any_way(serve: Any, lines: list[str]) -> None:
    service: Service = await serve(router)
    answered = await answer(service, *(f"Content-Encoding: {line}" for line in lines))
    assert answered.startswith("HTTP/1.1 200 ")


def test_the_longest_file_name_fits_into_its_field() -> None:
    name = quote("\U0001f600" * 63 + ".md")
    field = f"attachment; filename=\"{name}\"; filename*=UTF-8''{name}"
    assert parameters(field)[1]["filename"] == "\U0001f600" * 63 + ".md"


@pytest.mark.bound("2.3")
@pytest.mark.parametrize("text", [";" * 3000, 'x="' + ";" * 3000, "a=b;" * 800, "a" * 2049])
def test_no_parameters_are_looked_for_in_what_is_too_long(text: str) -> None:
    with pytest.raises(ValueError, match="2048 bytes"):
        parameters(text)
