"""A network link that goes down under a silent stream, without any reset."""

from collections.abc import Iterator
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.server import sockets

from ..link import Link, LinkedService, linked
from .conversation import ROUTE, shake_hands
from .subscriber import Subscriber, publish


@pytest.fixture
def link() -> Iterator[Link]:
    with linked() as made:
        yield made


@pytest.mark.trap("R4")
@pytest.mark.slow
async def test_subscribers_behind_a_lost_link_are_noticed_by_the_next_event(
    link: Link, sections: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "USER_TIMEOUTS", 1)
    async with LinkedService(link, **sections) as service:
        stream, socket = await link.connect(service), await link.connect(service)
        await Subscriber(stream).open("news")
        await shake_hands(socket, "news")
        link.lose()
        await publish(service, "news", "anything")

        assert await service.outcome_of("GET /topics/{topics}/events") == "client_abort"
        assert await service.outcome_of(ROUTE) == "client_abort"
        assert service.app.state.kernel.channels == set()
