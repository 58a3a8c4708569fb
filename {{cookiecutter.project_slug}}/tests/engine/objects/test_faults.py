"""The proxy that makes connections to S3 and Redis fail."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from ..peer import PATIENCE
from .faults import FaultProxy
from .servers import BUCKET, client


@pytest.fixture
def key(bucket_url: str) -> str:
    return bucket_url.removeprefix(f"s3://{BUCKET}/")


@pytest.fixture(params=[False, True])
def has_retries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setenv("AWS_RETRY_MODE", "standard")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3" if request.param else "1")
    return bool(request.param)


BODY = bytes(range(256)) * 4096


def test_without_faults_everything_passes(endpoint_url: str, key: str) -> None:
    with FaultProxy(endpoint_url) as proxy:
        s3 = client(proxy.url)
        for _ in range(3):
            s3.put_object(Bucket=BUCKET, Key=key, Body=BODY)
            assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == BODY
        s3.head_object(Bucket=BUCKET, Key=key)
        s3.delete_object(Bucket=BUCKET, Key=key)
        assert s3.list_objects_v2(Bucket=BUCKET, Prefix=key)["KeyCount"] == 0
        s3.close()

    assert proxy.count("^PUT ") == 3
    assert proxy.count(f"^(HEAD|DELETE) /{BUCKET}/{key}") == 2


@pytest.mark.parametrize(
    "what", [{"status": 503}, {"lose": True}, {"cut_request": 1000}], ids=lambda each: str(each)
)
def test_a_fault_that_ends_is_survived_by_retries(
    endpoint_url: str, key: str, what: dict[str, int], has_retries: bool
) -> None:
    with FaultProxy(endpoint_url) as proxy:
        fault = proxy.add("^PUT ", times=1, **what)
        s3 = client(proxy.url)
        try:
            s3.put_object(Bucket=BUCKET, Key=key, Body=BODY)
            assert has_retries
        except Exception:
            assert not has_retries
        found = client(endpoint_url).list_objects_v2(Bucket=BUCKET, Prefix=key)["KeyCount"]
        s3.close()

    assert found == (has_retries or "lose" in what)
    assert fault.count == 1


def test_a_response_that_is_cut_has_its_first_bytes(endpoint_url: str, key: str) -> None:
    client(endpoint_url).put_object(Bucket=BUCKET, Key=key, Body=BODY)
    with FaultProxy(endpoint_url) as proxy:
        proxy.add("^GET ", cut_response=70_000)
        url = client(proxy.url).generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": key})
        received = b""
        with (
            pytest.raises(httpx.RemoteProtocolError),
            httpx.stream("GET", url, timeout=PATIENCE) as response,
        ):
            for chunk in response.iter_raw():
                received += chunk

    assert received == BODY[:70_000]


def test_a_response_is_held_until_its_release(endpoint_url: str, key: str) -> None:
    with FaultProxy(endpoint_url) as proxy, ThreadPoolExecutor(1) as pool:
        fault = proxy.add("^PUT ", hold_response=True)
        s3 = client(proxy.url)
        put = pool.submit(s3.put_object, Bucket=BUCKET, Key=key, Body=b"x")
        fault.wait()
        assert client(endpoint_url).get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"x"
        assert not put.done()
        fault.release()
        put.result(PATIENCE)
        s3.close()


def test_connections_are_refused_for_a_time(endpoint_url: str) -> None:
    with FaultProxy(endpoint_url) as proxy:
        assert httpx.get(proxy.url, timeout=PATIENCE).status_code in (200, 403)
        proxy.refuse()
        with pytest.raises(httpx.ConnectError):
            httpx.get(proxy.url, timeout=PATIENCE)
        proxy.accept()
        assert httpx.get(proxy.url, timeout=PATIENCE).status_code in (200, 403)
