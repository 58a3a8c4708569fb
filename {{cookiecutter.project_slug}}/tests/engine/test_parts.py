"""Parts without their settings, or before they are open, raise helpful errors."""

from typing import Any, ClassVar

import pytest

from {{cookiecutter.package_name}}.engine.kernel.part import Part, opened
from {{cookiecutter.package_name}}.engine.service import Service
from {{cookiecutter.package_name}}.engine.settings import Section, ServiceSettings

ENVIRONMENT: Any = {"_env_file": None}


class ShopSettings(Section):
    """The section of the part."""

    name: str = "corner"


class Shop(Part):
    """A part with a section."""

    sections: ClassVar[dict[str, Any]] = {"shop": ShopSettings}


class Settings(ServiceSettings):
    """Settings with the section."""

    shop: ShopSettings = ShopSettings()


def test_a_part_names_the_section_that_the_settings_lack() -> None:
    with pytest.raises(TypeError, match=r"Shop needs `shop: ShopSettings = ShopSettings\(\)`"):
        Service(ServiceSettings(**ENVIRONMENT), Shop())


def test_what_is_not_open_says_how_an_application_is_started() -> None:
    app = Service(Settings(**ENVIRONMENT), Shop())

    with pytest.raises(RuntimeError, match=r"`shop` is not open.*with TestClient"):
        opened(app, "shop")

    app.state.shop = "open"
    assert opened(app, "shop") == "open"
