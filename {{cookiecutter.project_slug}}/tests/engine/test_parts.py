"""A part that lacks its settings, or that nothing has opened, says what to do."""

from typing import Any, ClassVar

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.requests import Request

from {{cookiecutter.package_name}}.engine.kernel.part import Part, opened
from {{cookiecutter.package_name}}.engine.service import Service
from {{cookiecutter.package_name}}.engine.settings import Section, ServiceSettings

ENVIRONMENT: Any = {"_env_file": None}


class ShopSettings(Section):
    """The section of the part."""

    name: str = "corner"


class Shop(Part):
    """A part with a section and with something to open."""

    sections: ClassVar[dict[str, Any]] = {"shop": ShopSettings}

    def add_to(self, app: FastAPI) -> None:
        @app.get("/shop")
        async def shop(request: Request) -> str:
            return str(opened(request.app, "shop"))


class Settings(ServiceSettings):
    """Settings with the section."""

    shop: ShopSettings = ShopSettings()


def test_a_part_names_the_section_that_the_settings_lack() -> None:
    with pytest.raises(TypeError, match=r"Shop needs `shop: ShopSettings = ShopSettings\(\)`"):
        Service(ServiceSettings(**ENVIRONMENT), Shop())


def test_what_is_not_open_says_how_an_application_is_started() -> None:
    client = TestClient(Service(Settings(**ENVIRONMENT), Shop()))

    with pytest.raises(RuntimeError, match="with TestClient"):
        client.get("/shop")
