"""The bucket: its calls on both servers, and their errors in one line."""

from collections.abc import Iterator
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.objects import bucket as module
from {{cookiecutter.package_name}}.engine.objects.bucket import Bucket, BucketError

from .faults import FaultProxy
from .servers import BUCKET

BODY = bytes(range(256)) * 1000


@pytest.fixture
def bucket(bucket_url: str, endpoint_url: str) -> Iterator[Bucket]:
    bucket = Bucket(bucket_url, endpoint_url)
    yield bucket
    bucket.close()


@pytest.fixture
def proxy(endpoint_url: str) -> Iterator[FaultProxy]:
    with FaultProxy(endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def proxied(
    bucket_url: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    monkeypatch.setattr(module, "TRIES", 2)
    bucket = Bucket(bucket_url, proxy.url)
    yield bucket
    bucket.close()


def test_objects_are_written_read_and_deleted(bucket: Bucket) -> None:
    key = bucket.key("a", "ä b+c%2F")
    assert bucket.get(key) is None
    bucket.put(key, b"1")
    bucket.put(key, b"2")
    assert bucket.get(key) == b"2"
    bucket.delete(key, key)
    assert bucket.get(key) is None


def test_a_new_object_replaces_none(bucket: Bucket) -> None:
    key = bucket.key("a")
    assert bucket.put_new(key, b"1")
    assert not bucket.put_new(key, b"2")
    assert bucket.get(key) == b"1"


def test_an_object_is_replaced_by_its_tag(bucket: Bucket) -> None:
    key = bucket.key("a")
    first = bucket.put_if(key, b"1", None)
    assert first is not None
    second = bucket.put_if(key, b"2", first)
    assert second is not None
    assert bucket.put_if(key, b"3", first) is None
    assert bucket.get_tagged(key) == (b"2", second)
    bucket.delete(key)
    assert bucket.put_if(key, b"3", second) is None
    assert bucket.get_tagged(key) is None


def test_a_listing_is_ordered_and_has_all_pages(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    paged = bucket._client.list_objects_v2
    monkeypatch.setattr(
        bucket._client, "list_objects_v2", lambda **values: paged(MaxKeys=3, **values)
    )
    keys = [bucket.key("log", f"{number:016d}") for number in range(10)]
    for key in [*keys[::-1], bucket.key("logs"), bucket.key("lof", "1")]:
        bucket.put(key, b"12")

    found = list(bucket.list(bucket.key("log/")))

    assert [each.key for each in found] == keys
    assert {each.size for each in found} == {2}
    assert all(abs(each.modified_at - bucket.now) < 60 for each in found)
    assert [each.key for each in bucket.list(bucket.key("log/"), after=keys[7])] == keys[8:]


def test_a_prefix_may_be_empty(endpoint_url: str) -> None:
    assert Bucket(f"s3://{BUCKET}", endpoint_url).key("a", "b") == "a/b"
    assert Bucket(f"s3://{BUCKET}/x/y/", endpoint_url).key("a") == "x/y/a"


async def test_the_asynchronous_client_has_the_same_bucket(bucket: Bucket) -> None:
    key = bucket.key("a")
    async with bucket.connected() as client:
        await client.put_object(Bucket=bucket.name, Key=key, Body=BODY)
        response = await client.get_object(Bucket=bucket.name, Key=key)
        assert await response["Body"].read() == BODY
        with pytest.raises(BucketError, match="does not exist"), bucket.errors():
            await client.get_object(Bucket="other", Key=key)
    assert bucket.get(key) == BODY


def test_a_missing_bucket_is_reported(endpoint_url: str) -> None:
    missing = Bucket("s3://missing/x", endpoint_url)
    for call in (missing.get, lambda key: missing.put(key, b""), lambda key: [*missing.list(key)]):
        with pytest.raises(BucketError) as raised:
            call(missing.key("a"))
        assert str(raised.value) == "s3://missing/x: the bucket does not exist"
        assert not raised.value.is_temporary


def test_missing_credentials_are_reported(
    bucket_url: str, endpoint_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    bucket = Bucket(bucket_url, endpoint_url)
    with pytest.raises(BucketError, match="no credentials; see AWS_ACCESS_KEY_ID") as raised:
        bucket.get("a")
    assert not raised.value.is_temporary


def test_no_region_is_necessary_with_an_address(
    bucket_url: str, endpoint_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert Bucket(bucket_url, endpoint_url).get("a") is None


def test_wrong_credentials_are_reported(
    bucket_url: str,
    endpoint_url: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    bucket = Bucket(bucket_url, endpoint_url)
    if "moto" in request.node.name:
        pytest.skip("moto does not check signatures")
    with pytest.raises(BucketError, match="the secret key is wrong; see AWS_SECRET_ACCESS_KEY"):
        bucket.put(bucket.key("a"), b"")


@pytest.mark.parametrize(
    ("fault", "is_temporary"),
    [
        ({"status": 503}, True),
        ({"status": 500}, True),
        ({"lose": True}, True),
        ({"cut_response": 10}, True),
        ({"status": 403}, False),
    ],
    ids=str,
)
def test_a_fault_that_lasts_is_one_line(
    proxied: Bucket, proxy: FaultProxy, fault: dict[str, Any], is_temporary: bool
) -> None:
    key = proxied.key("a")
    proxied.put(key, BODY)
    seen = proxy.add("^GET ", **fault)
    with pytest.raises(BucketError) as raised:
        proxied.get(key)
    assert raised.value.is_temporary == is_temporary
    assert str(raised.value).startswith(f"{proxied.url}: ")
    assert "\n" not in str(raised.value)
    assert seen.count == (module.TRIES if is_temporary else 1)


def test_a_cut_response_is_read_again(proxied: Bucket, proxy: FaultProxy) -> None:
    key = proxied.key("a")
    proxied.put(key, BODY)
    fault = proxy.add("^GET ", cut_response=len(BODY) - 1, times=module.TRIES - 1)
    assert proxied.get(key) == BODY
    assert fault.count == module.TRIES - 1


def test_a_server_that_is_away_is_temporary(proxied: Bucket, proxy: FaultProxy) -> None:
    proxy.refuse()
    with pytest.raises(BucketError, match="Could not connect") as raised:
        proxied.put("a", b"")
    assert raised.value.is_temporary
    proxy.accept()
    proxied.put("a", b"")


def test_a_lost_response_of_a_new_object_looks_like_a_conflict(
    proxied: Bucket, proxy: FaultProxy
) -> None:
    proxy.add("^PUT ", lose=True, times=1)
    assert not proxied.put_new(proxied.key("a"), b"1")
    assert proxied.get(proxied.key("a")) == b"1"
