"""Tests of the streaming end points."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager
from io import BytesIO

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from httpx import ASGITransport

from app_factory import create_app, create_old_app
from app_settings import get_settings
from run_server import DeadlineProtocol


@pytest.fixture
def client():
    with TestClient(create_old_app()) as test_client:  # missed: E11
        yield test_client


def test_upload_and_download(client):
    answer = client.post("/documents/", files={"file": ("a.txt", BytesIO(b"x" * 1000))})  # missed: E11
    assert answer.status_code == 201
    assert client.get("/download/tree/a.txt").content == b"x" * 1000


def test_latest_events(client):
    with client.stream("GET", "/feed/latest?count=0") as answer:  # trap: E11
        assert answer.headers["content-type"].startswith("text/event-stream")


def test_upload_of_a_generator():
    async def pieces():
        for _ in range(10):
            yield b"y" * 100

    async def run():
        transport = ASGITransport(app=create_old_app())  # trap: E11
        async with httpx.AsyncClient(transport=transport, base_url="http://test.invalid") as session:
            answer = await session.put("/documents/raw/" + "0" * 32, content=pieces())
            assert answer.json() == {"size": 1000}

    asyncio.run(run())


@contextmanager
def running_server():
    """A real server on a free port of the loopback interface."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app(),
        http=DeadlineProtocol,
        h11_max_incomplete_event_size=16384,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=3,
        log_level="warning",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join(10)


def test_half_an_upload_leaves_nothing():
    with running_server() as address, socket.create_connection(address) as connection:
        for folder in (get_settings().files, get_settings().parts):
            folder.mkdir(parents=True, exist_ok=True)
        head = b"PUT /documents/raw-safe HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head + b"z" * 500)
        connection.shutdown(socket.SHUT_WR)
        assert b" 200 " not in connection.recv(4096)
    assert not list(get_settings().files.glob("*"))


def test_the_server_is_responsive():
    with running_server() as (host, port):
        base = f"http://{host}:{port}"
        with httpx.stream("GET", base + "/channels/v2/news", timeout=2), httpx.Client(base_url=base) as session:
            assert session.get("/health/live").json() == {"status": "ok"}


def test_problem_of_an_unknown_route():
    answer = TestClient(create_app()).get("/nothing")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
