"""The S3 servers of the tests, and the properties that the service requires."""

from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import ClientError

from .servers import BUCKET, client


def test_one_of_many_conditional_writes_wins(endpoint_url: str, bucket_url: str) -> None:
    key = bucket_url.removeprefix(f"s3://{BUCKET}/")
    s3 = client(endpoint_url)

    def write(number: int) -> bool:
        try:
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"%d" % number, IfNoneMatch="*")
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412)
        return True

    with ThreadPoolExecutor(10) as pool:
        won = list(pool.map(write, range(50)))

    assert won.count(True) == 1
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"%d" % won.index(True)
    s3.close()
