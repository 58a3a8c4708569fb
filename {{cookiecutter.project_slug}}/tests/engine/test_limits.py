"""The limits of streams: common ones, and those of a module."""

from {{cookiecutter.package_name}}.engine.kernel.limits import (
    ModuleLimits,
    StreamingSettings,
)


def test_a_module_has_the_limits_of_all_where_it_sets_none() -> None:
    everybody = StreamingSettings(idle_timeout=5, max_streams=7)
    sections = {"upload": ModuleLimits(max_streams=1, min_rate=100), "cors": object()}

    limits = everybody.by_module(sections.items())

    assert limits.keys() == {"upload"}
    assert limits["upload"] == everybody.model_copy(update={"max_streams": 1, "min_rate": 100})
