"""The servers that send events, their commands, and Redis."""

import os
import pwd
import re
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import processes
import report
from load import HOST
from measure import START_TIME, MeasureError, free_port
from servers import Command, Tools, Variant, uvicorn

#: The path at which the service publishes events and accepts subscribers.
TOPIC = "/topics/benchmark/events"
#: The limit of connections, for servers with such a setting.
CONNECTIONS = 60_000
#: Seconds that a publisher may be idle while its event is delivered.
KEEP_ALIVE = "60"


@dataclass(frozen=True)
class Realtime(Variant):
    """A way of sending events from one server, or from several that share the subscribers."""

    subscribe: str
    publish: str
    servers: int = 1
    redis: bool = False
    """Whether there is a Redis behind them; it costs too."""

    @property
    def available(self) -> bool:
        return super().available and (self.program != "nginx" or nchan().exists())


def start_ours(tools: Tools, files: Path, port: int, broker: str = "") -> Command:
    settings = {
        "server__port": str(port),
        "server__keep_alive": KEEP_ALIVE,
        "streaming__max_streams": str(CONNECTIONS),
    }
    if broker:
        settings["realtime__broker_url"] = broker
    env = tools.variables(files, **settings)
    return Command([tools.python, "-m", tools.package], files, env)


def start_naive(tools: Tools, files: Path, port: int) -> Command:
    return uvicorn(tools, "naive_realtime:app", port, "--timeout-keep-alive", KEEP_ALIVE)


def start_nchan(tools: Tools, files: Path, port: int) -> Command:
    config = files / "nginx.conf"
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    connections = min(CONNECTIONS, os.sysconf("SC_OPEN_MAX"))
    config.write_text(
        NCHAN.format(module=nchan(), user=user, files=files, port=port, connections=connections)
    )
    return Command(["nginx", "-p", str(files), "-c", str(config), "-e", "stderr"])


@cache
def nchan() -> Path:
    """Return the path of the module, if it is installed."""
    directory = re.search(r"--modules-path=(\S+)", report.output("nginx", "-V"))
    return Path(directory[1] if directory else "") / "ngx_nchan_module.so"


NCHAN = """
load_module {module};
{user}
daemon off;
worker_processes 1;
pid {files}/nginx.pid;
events {{
    worker_connections {connections};
}}
http {{
    access_log off;
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location = /publish {{
            nchan_publisher;
            nchan_channel_id benchmark;
        }}
        location = /subscribe {{
            nchan_subscriber eventsource;
            nchan_channel_id benchmark;
        }}
        location = /ping {{
            return 200 "live";
        }}
    }}
}}
"""


@contextmanager
def running_redis() -> Generator[tuple[int, str]]:
    """Run a Redis without persistence on the cores of the load; yield its process and URL."""
    port = free_port()
    words = [
        "redis-server",
        "--bind",
        HOST,
        "--port",
        str(port),
        "--save",
        "",
        "--loglevel",
        "warning",
    ]
    with processes.cores(processes.CLIENT_CORES):
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + START_TIME
        while True:
            try:
                socket.create_connection((HOST, port)).close()
                break
            except ConnectionError as error:
                if time.monotonic() > until or process.poll() is not None:
                    raise MeasureError("redis-server does not start") from error
                time.sleep(0.02)
        yield process.pid, f"redis://{HOST}:{port}/0"
    finally:
        process.terminate()
        process.wait()


VARIANTS = [
    Realtime("ours", "ours", start_ours, TOPIC, TOPIC, ours=True),
    Realtime("native", "FastAPI, its own SSE", start_naive, "/native", "/publish"),
    Realtime("sse-starlette", "sse-starlette", start_naive, "/sse-starlette", "/publish"),
    Realtime("stream", "FastAPI, StreamingResponse", start_naive, "/stream", "/publish"),
    Realtime(
        "nchan", "nchan in nginx", start_nchan, "/subscribe", "/publish",
        ping="/ping", program="nginx",
    ),
    Realtime(
        "redis", "ours on Redis", start_ours, TOPIC, TOPIC,
        redis=True, ours=True, program="redis-server",
    ),
    Realtime(
        "redis-2", "ours on Redis, 2 processes", start_ours, TOPIC, TOPIC,
        servers=2, redis=True, ours=True, program="redis-server",
    ),
]  # fmt: skip
