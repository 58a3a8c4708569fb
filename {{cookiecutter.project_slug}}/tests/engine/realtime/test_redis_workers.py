"""Several workers on one Redis, also while the service ends or loses one of them."""

import os
import sys
from pathlib import Path

import pytest

from ..redis_server import RedisServer, redis, stopped_redis
from ..service import ServiceProcess
from ..signals import KILL
from .subscriber import Subscriber
from .test_deploys import CLIENTS, say_goodbye

__all__ = ["redis", "stopped_redis"]  # Fixtures.

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")


def workers(directory: Path, redis: RedisServer) -> ServiceProcess:
    settings = {"REALTIME__BROKER_URL": redis.url, "SERVER__DRAIN_NOTICE": "0.2"}
    return ServiceProcess(directory, **settings, SERVER__WORKERS="2")


@pytest.mark.slow
async def test_every_client_of_two_workers_is_told_when_to_come_back(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with workers(tmp_path, redis) as process:
        retries = await say_goodbye(process)

        assert len(retries) > CLIENTS / 2
        assert await process.exit_code() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the children of a process")
@pytest.mark.slow
async def test_a_worker_that_is_killed_is_replaced_and_its_clients_resume(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with workers(tmp_path, redis) as process, process.client() as client:
        async with process.raw_connection() as peer:
            subscriber = Subscriber(peer)
            await subscriber.open("news")
            first = (await client.post("/topics/news/events", json=1)).json()["id"]
            assert (await subscriber.block())["id"] == first
            for worker in children_of(process.process.pid):
                os.kill(worker, KILL)
            with pytest.raises((EOFError, ConnectionError)):
                await subscriber.block()

        async with process.raw_connection() as peer, process.client() as other:
            subscriber = Subscriber(peer)
            await subscriber.open("news", f"Last-Event-ID: {first}")
            second = (await other.post("/topics/news/events", json=2)).json()["id"]
            assert (await subscriber.block())["id"] == second
        process.terminate()
        assert await process.exit_code() == 0


def children_of(pid: int) -> list[int]:
    """Return the workers, without the helper process of multiprocessing."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {each: Path(f"/proc/{each}/cmdline").read_bytes() for each in children}
    return [int(each) for each, command in commands.items() if b"spawn_main" in command]
