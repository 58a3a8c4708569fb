"""Two S3 servers of different origin: moto, and SeaweedFS where its program is installed.

Each is started when a test needs it, and runs until the end of the process. Tests do not share
files: each has its own prefix in the bucket.
"""

import atexit
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from ..peer import PATIENCE
from . import server_process

SERVERS = ("moto", "seaweedfs")
BUCKET = "files"
#: The environment of processes that use the servers; nothing of the developer's own settings.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "admin",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


@cache
def start(name: str) -> str:
    """Start a server with an empty bucket, once, and return its address."""
    if name == "seaweedfs" and server_process.PROGRAM is None:
        pytest.skip("there is no program `weed` (SeaweedFS)")
    if name == "moto" and find_spec("moto") is None:
        pytest.skip("moto is not installed")
    process = subprocess.Popen(
        [sys.executable, server_process.__file__, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | ENVIRONMENT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    atexit.register(process.wait, PATIENCE)
    atexit.register(process.stdin.close)  # The last one is the first to run.
    with process.stdout:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
    _make_bucket(url)
    return url


def client(endpoint_url: str) -> Any:
    """Return a client of botocore, with which tests look into a bucket."""
    return Session().create_client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=ENVIRONMENT["AWS_DEFAULT_REGION"],
        aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
        config=Config(s3={"addressing_style": "path"}),
    )


def _make_bucket(url: str) -> None:
    """Wait until the server accepts an object."""
    end = time.monotonic() + PATIENCE
    s3 = client(url)
    while True:
        try:
            s3.create_bucket(Bucket=BUCKET)
            s3.put_object(Bucket=BUCKET, Key="ready", Body=b"")
        except (BotoCoreError, ClientError):
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            break
    s3.delete_object(Bucket=BUCKET, Key="ready")
    s3.close()


@pytest.fixture(scope="session", params=SERVERS)
def endpoint_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an S3 server; the environment has the credentials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE", raising=False)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield start(request.param)


@pytest.fixture
def bucket_url(endpoint_url: str) -> str:
    """A prefix of the bucket, for one test."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"
