"""Transfer objects with the client library alone, and print the duration.

The parts are those of the service: 5 MiB each, and two of an object at a time. The bytes are
random, like those that the service receives: some servers store zeros with less work.
"""

import asyncio
import json
import os
import resource
import sys
import time
from typing import Any

from aiobotocore.client import AioBaseClient
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

PART, IN_FLIGHT = 5 << 20, 2
#: Bytes per read of a response.
READ = 256 << 10
SETTINGS: dict[str, Any] = {
    "s3": {"addressing_style": "path"},
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}


async def upload(client: AioBaseClient, bucket: str, key: str, size: int) -> None:
    created = await client.create_multipart_upload(Bucket=bucket, Key=key)
    upload_id, turns, data = created["UploadId"], asyncio.Semaphore(IN_FLIGHT), os.urandom(PART)

    async def send(number: int, body: bytes) -> dict[str, Any]:
        async with turns:
            part = {"Bucket": bucket, "Key": key, "UploadId": upload_id, "PartNumber": number}
            sent = await client.upload_part(**part, Body=body)
        return {"PartNumber": number, "ETag": sent["ETag"]}

    sizes = [min(PART, size - start) for start in range(0, size, PART)]
    parts = await asyncio.gather(
        *(send(number, data[:length]) for number, length in enumerate(sizes, 1))
    )
    await client.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
    )


async def download(client: AioBaseClient, bucket: str, key: str, size: int) -> None:
    found = await client.get_object(Bucket=bucket, Key=key)
    received = 0
    async with found["Body"] as body:
        while data := await body.read(READ):
            received += len(data)
    if received != size:
        raise OSError(f"{key}: {received} of {size} bytes")


async def main(plan: dict[str, Any]) -> None:
    transfer = {"upload": upload, "download": download}[plan["way"]]
    config = AioConfig(**SETTINGS)
    url, count, key = plan["url"], plan["count"], plan["key"]
    async with get_session().create_client("s3", endpoint_url=url, config=config) as client:
        keys = [key if plan["way"] == "download" else f"raw/{n}" for n in range(count)]
        await transfer(client, plan["bucket"], plan["warm"], plan["warm_size"])
        usage, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        for _ in range(plan["times"]):
            each = (transfer(client, plan["bucket"], key, plan["size"]) for key in keys)
            await asyncio.gather(*each)
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
        json.dump({"seconds": seconds, "client_cpu": cpu}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(json.load(sys.stdin)))
