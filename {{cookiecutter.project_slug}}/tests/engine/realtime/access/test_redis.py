"""Access to topics, runs and events of files on Redis, also in another process."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from ...redis_server import RedisServer, redis, stopped_redis
from ...service import Service
from ..runs import Script
from .senders import bearer, following, key_of
from .test_expiry import (  # noqa: F401  (Again, on Redis.)
    test_a_run_continues_and_its_followers_are_told,
    test_a_stream_of_a_revoked_key_ends,
)
from .test_runs import (  # noqa: F401
    RUNS,
    start,
    statuses,
    test_a_long_run_is_still_that_of_its_owner,
    test_a_run_of_another_owner_is_not_there,
    test_a_run_that_has_ended_is_still_that_of_its_owner,
    test_runs_need_scopes,
    test_the_topic_of_a_run_cannot_be_named,
)
from .test_topics import (  # noqa: F401
    test_an_idempotency_key_is_that_of_the_principal,
    test_it_opens_no_others,
)

if find_spec(f"{__package__}.test_files"):  # Only with uploads.
    files = import_module(".test_files", __package__)
    for name in (
        "test_a_client_that_comes_back_gets_only_its_own_missed_events",
        "test_each_owner_receives_the_events_of_their_own_files",
        "test_no_scope_opens_the_files_of_others",
        "test_the_progress_of_an_upload_is_told_to_its_owner",
    ):
        globals()[name] = getattr(files, name)

__all__ = ["redis", "stopped_redis"]


@pytest.fixture
def sections(sections: dict[str, dict[str, Any]], redis: RedisServer) -> dict[str, dict[str, Any]]:
    """The default settings, with Redis."""
    return {**sections, "realtime": {"broker_url": redis.url}}


async def test_a_run_has_its_owner_in_every_process_and_after_a_restart_of_redis(
    serve: Callable[..., Any], redis: RedisServer
) -> None:
    script = Script()
    one: Service = await serve(script.router)
    alice, bob = (key_of(one, owner, *RUNS) for owner in ("alice", "bob"))
    async with one.client() as client:
        run_id = await start(client, alice)
        await script.say(one, "a", None)
        assert await script.closed()
        async with client.stream(
            "GET", f"/runs/{run_id}/events", headers=bearer(alice)
        ) as response:
            assert "complete" in (await response.aread()).decode()
    await redis.stop()
    await redis.start()
    other: Service = await serve()
    async with other.client() as client:
        assert await statuses(client, run_id, bob) == [404, 404]
        assert await statuses(client, run_id, alice) == [200, 202]


async def test_a_key_is_valid_in_every_process(serve: Callable[..., Any]) -> None:
    one, other = await serve(), await serve()

    assert 403 not in await following(other, "orders", key_of(one, "alice", "topics:subscribe:*"))
