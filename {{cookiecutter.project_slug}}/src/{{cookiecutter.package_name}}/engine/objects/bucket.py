"""A bucket of S3-compatible object storage, with the clients of botocore and aiobotocore.

The blocking calls are for databases and commands; files are sent and received with the asynchronous
client. Credentials and the region come from the environment of AWS's tools.
"""

import base64
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from zlib import crc32

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError as NoConnection,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
)
from botocore.loaders import Loader
from botocore.session import Session
from botocore.utils import get_environ_proxies

#: Seconds to connect, and to wait for data: with the blocking client, and with the other one, with
#: which the server may first join the parts of a large file.
CONNECT_SECONDS = 5
READ_SECONDS = (10, 60)
#: Tries of a request; the intervals are random, and double.
TRIES = 4
#: Connections at a time: of the blocking client, and of the other one, in which each download has
#: one unless it is direct. Further requests wait.
CONNECTIONS = (10, 1000)
#: The status codes that mean that the same request may succeed later, below 500.
_TEMPORARY = {408, 409, 429}
_HINTS = {
    "NoSuchBucket": "the bucket does not exist",
    "InvalidAccessKeyId": "the access key is unknown; see AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key is wrong; see AWS_SECRET_ACCESS_KEY",
    "AccessDenied": "access is denied; the policy of the credentials must permit it",
}
#: Errors of the network, of both clients: while connecting, and later.
_NETWORK = (
    *(NoConnection, HTTPClientError, IncompleteReadError),
    *(aiohttp.ClientError, TimeoutError, ConnectionError),
)
_ERRORS = (BotoCoreError, ClientError, *_NETWORK)
#: The description of S3, which takes long to read.
_LOADER = Loader()

# The clients log where they have found credentials, and the commands print their log.
for _name in ("botocore.credentials", "aiobotocore.credentials"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class BucketError(OSError):
    """The bucket cannot be reached, refuses a request, or fails after several tries.

    `is_temporary`: the same request may succeed later.
    """

    def __init__(self, text: str, *, is_temporary: bool) -> None:
        super().__init__(" ".join(text.split()))
        self.is_temporary = is_temporary


class Entry(NamedTuple):
    """An object of a listing: its size in bytes, and its time in seconds since 1970."""

    key: str
    size: int
    modified_at: float


class Bucket:
    """A bucket and a prefix in it: `s3://name/prefix`. All methods raise BucketError."""

    def __init__(self, url: str, endpoint_url: str | None) -> None:
        """`endpoint_url` is the address of the server; None is AWS."""
        self.url = url
        self.name, _, prefix = url.removeprefix("s3://").partition("/")
        self.prefix = prefix.strip("/")
        #: The server's time in the newest response, in seconds since 1970; 0 without a response.
        self.now = 0.0
        self._endpoint_url = endpoint_url
        with self.errors():
            session = Session()
            session.register_component("data_loader", _LOADER)
            self._client = session.create_client(
                "s3", endpoint_url=endpoint_url, config=Config(**self._options(0))
            )

    @property
    def is_direct(self) -> bool:
        """Whether the server is reached by plain HTTP, without a proxy."""
        url = self._endpoint_url or "https:"
        return url.startswith("http:") and "http" not in get_environ_proxies(url)

    def key(self, *parts: str) -> str:
        """Return a key below the prefix."""
        return "/".join((self.prefix, *parts) if self.prefix else parts)

    def get(self, key: str) -> bytes | None:
        """Return the bytes of an object, None if there is none."""
        found = self.get_tagged(key)
        return found[0] if found else None

    def get_tagged(self, key: str) -> tuple[bytes, str] | None:
        """Return the bytes of an object and its entity tag, None if there is none."""
        for last in (*[False] * (TRIES - 1), True):
            response = self._call("get_object", (404,), Key=key)
            if response is None:
                return None
            try:
                return response["Body"].read(), response["ETag"]
            except _NETWORK as error:  # The client repeats requests, but not for cut bodies.
                if last:
                    raise self._error(error) from error
        raise AssertionError

    def put(self, key: str, data: bytes) -> None:
        """Write an object, or replace it."""
        self._put(key, data)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write an object unless it exists; return whether it was written.

        False means that it exists, that another client writes it now, or that a request of this
        call has written it whose response was lost.
        """
        return self.put_if(key, data, None) is not None

    def put_if(self, key: str, data: bytes, etag: str | None) -> str | None:
        """Replace an object that has this entity tag, and return its new one; None if it has not.

        Without a tag, the object must not exist. For lost responses, see `put_new`.
        """
        condition: Any = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        lost = (409, 412) if etag is None else (404, 409, 412)
        response = self._put(key, data, lost, **condition)
        return str(response["ETag"]) if response else None

    def delete(self, *keys: str) -> None:
        """Delete objects, in this order; those that do not exist are ignored."""
        for key in keys:
            self._call("delete_object", Key=key)

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        """Yield the objects whose keys begin with `prefix` and follow `after`, ordered by key."""
        query: Any = {"Prefix": prefix, "StartAfter": after}
        while True:
            page = self._call("list_objects_v2", **query)
            for each in page.get("Contents", []):
                yield Entry(each["Key"], each["Size"], each["LastModified"].timestamp())
            if not page["IsTruncated"]:
                return
            query["ContinuationToken"] = page["NextContinuationToken"]

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[Any]:
        """Open aiobotocore's client; calls of it belong into `with bucket.errors():`."""
        config = AioConfig(**self._options(1))
        async with AsyncExitStack() as stack:
            with self.errors():
                client = await stack.enter_async_context(
                    get_session().create_client(
                        "s3", endpoint_url=self._endpoint_url, config=config
                    )
                )
            yield client

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise the errors of both clients as BucketError, whose text is one line."""
        try:
            yield
        except _ERRORS as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Close the connections of the blocking client."""
        self._client.close()

    def _options(self, kind: int) -> dict[str, Any]:
        # Not all servers support checksums in trailers, or names of buckets in host names. The hash
        # of a body protects it without TLS; with TLS, it would cost twice as much as sending. The
        # bodies of the asynchronous client have checksums, which do not block the event loop.
        is_tls = self._endpoint_url is None or self._endpoint_url.startswith("https:")
        return {
            "signature_version": "s3v4",  # Also of URLs.
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS[kind],
            "retries": {"mode": "standard", "total_max_attempts": TRIES},
            "max_pool_connections": CONNECTIONS[kind],
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "s3": {
                "addressing_style": "path" if self._endpoint_url else "auto",
                "payload_signing_enabled": not is_tls and not kind,
            },
        }

    def _put(self, key: str, data: bytes, expected: Sequence[int] = (), **condition: Any) -> Any:
        # Without a checksum, some servers store an empty object if this process dies now.
        checksum = base64.b64encode(crc32(data).to_bytes(4)).decode()
        return self._call(
            "put_object", expected, Key=key, Body=data, ChecksumCRC32=checksum, **condition
        )

    def _call(self, operation: str, expected: Sequence[int] = (), **values: Any) -> Any:
        """Return the response to a request, None for the expected status codes."""
        with self.errors():
            try:
                response = getattr(self._client, operation)(Bucket=self.name, **values)
            except ClientError as error:
                response = error.response
                self._observe(response)
                is_expected = response["ResponseMetadata"]["HTTPStatusCode"] in expected
                if is_expected and response["Error"].get("Code") != "NoSuchBucket":
                    return None
                raise
        self._observe(response)
        return response

    def _observe(self, response: Any) -> None:
        date = response["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
        if date:
            self.now = max(self.now, parsedate_to_datetime(date).timestamp())

    def _error(self, error: Exception) -> BucketError:
        if isinstance(error, ClientError):
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code = error.response["Error"].get("Code", "")
            reason = _HINTS.get(code, str(error))
            is_temporary = status >= 500 or status in _TEMPORARY
        elif isinstance(error, NoCredentialsError):
            reason, is_temporary = "no credentials; see AWS_ACCESS_KEY_ID", False
        else:
            reason = str(error) or type(error).__name__
            is_temporary = isinstance(error, _NETWORK)
        return BucketError(f"{self.url}: {reason}", is_temporary=is_temporary)
