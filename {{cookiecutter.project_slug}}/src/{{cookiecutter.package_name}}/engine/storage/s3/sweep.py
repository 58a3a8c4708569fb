"""The sweep removes what dead processes have left in the bucket; one process at a time does it.

If the lease of an id can be taken, no process works on it. The removal of its bytes is first added
to the log of the records. Then a process that was suspended and has lost its lease cannot add the
record any more.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import islice
from typing import Any

from ...kernel.threads import in_thread
from ...objects.leases import Lease
from ..records import is_id
from .catalogue import SharedCatalogue
from .pool import S3Pool
from .writer import Multipart

#: Ids of one query, and unknown ones that are removed together.
PAGE = 1000
BATCH = 100
#: Objects that are deleted at the same time.
DELETED = 16
#: Seconds after which all objects are listed again; in between, those that are younger.
LIST_ALL_SECONDS = 86_400.0
#: Seconds for which no record can be added of a file that was removed.
BANNED_SECONDS = 86_400.0

logger = logging.getLogger(__name__)


class Sweep:
    """The sweeps of one process."""

    def __init__(
        self,
        pool: S3Pool,
        catalogue: SharedCatalogue,
        leased: Callable[[str], AbstractAsyncContextManager[Lease | None]],
    ) -> None:
        self._pool, self._catalogue, self._leased = pool, catalogue, leased
        self._bucket = pool.bucket
        #: Files that this process has removed since the last sweep.
        self.removed: list[str] = []
        self._listed_at = 0.0

    async def run(self) -> None:
        """Remove the bytes without a record or an upload; raises Problem 503."""
        removed, self.removed = self.removed, []
        for start in range(0, len(removed), PAGE):
            await self._catalogue.confirm_removal(removed[start : start + PAGE])
        async with self._leased("sweep") as lease:
            if lease is None:
                return
            now = time.time()
            await self._remove_again()
            await self._remove_unknown(now)
            await self._catalogue.forget_removed(now - BANNED_SECONDS)

    async def _remove_again(self) -> None:
        """Remove the bytes of files whose removal was interrupted."""
        rest = await self._catalogue.removed()
        for start in range(0, len(rest), PAGE):
            await self._remove(rest[start : start + PAGE])

    async def _remove_unknown(self, now: float) -> None:
        uploads = await self._uploads()
        lists_all = now >= self._listed_at + LIST_ALL_SECONDS
        # The ids begin with their time.
        first = "" if lists_all else f"{int(now - LIST_ALL_SECONDS) * 1000:012x}"
        after = self._bucket.key("files", f"{first[:8]}-{first[8:]}" if first else "")
        listing = self._bucket.list(self._bucket.key("files", ""), after)
        while page := await in_thread(None, lambda: list(islice(listing, PAGE))):
            # In this order, as a record may have been added after its object was listed.
            await self._catalogue.refresh()
            ids = filter(is_id, (entry.key.rpartition("/")[2] for entry in page))
            unknown = await self._catalogue.unknown(list(ids))
            for start in range(0, len(unknown), BATCH):
                await self._remove_orphans(unknown[start : start + BATCH])
        await self._abort(uploads)
        self._listed_at = now if lists_all else self._listed_at

    async def _remove_orphans(self, ids: Sequence[str]) -> None:
        async with AsyncExitStack() as stack:
            free = [each for each in ids if await stack.enter_async_context(self._leased(each))]
            if banned := await self._catalogue.ban(free) if free else []:
                logger.warning("%s incomplete files of dead processes are removed", len(banned))
                await self._remove(banned)

    async def _remove(self, ids: Sequence[str]) -> None:
        """Remove the bytes of files of which no record can be added."""
        for start in range(0, len(ids), DELETED):
            keys = [self._bucket.key("files", each) for each in ids[start : start + DELETED]]
            await asyncio.gather(*(self._pool.ask("delete_object", key) for key in keys))
        await self._catalogue.confirm_removal(ids)

    async def _uploads(self) -> list[tuple[str, str]]:
        """Return the ids of files whose parts are in S3, with the ids of the multipart uploads."""
        found: list[tuple[str, str]] = []
        query: dict[str, Any] = {"Prefix": self._bucket.key("files", "")}
        while True:
            with self._bucket.errors():
                page = await self._pool.client.list_multipart_uploads(
                    Bucket=self._bucket.name, **query
                )
            uploads = page.get("Uploads", [])
            found += [(each["Key"].rpartition("/")[2], each["UploadId"]) for each in uploads]
            if not page["IsTruncated"]:
                return found
            query["KeyMarker"] = page["NextKeyMarker"]
            query["UploadIdMarker"] = page["NextUploadIdMarker"]

    async def _abort(self, uploads: Sequence[tuple[str, str]]) -> None:
        """Abort the multipart uploads that no process continues."""
        for start in range(0, len(uploads), PAGE):
            page = uploads[start : start + PAGE]
            kept = await self._catalogue.continued([upload_id for _, upload_id in page])
            for file_id, upload_id in page:
                if upload_id in kept:
                    continue
                async with self._leased(file_id) as lease:
                    if lease is None:
                        continue
                    # Its holder may have recorded it just now, or may be about to.
                    await self._catalogue.refresh()
                    if lease.taken_over and not await self._catalogue.unknown([file_id]):
                        continue
                    if not await self._catalogue.continued([upload_id]):
                        key = self._bucket.key("files", file_id)
                        await Multipart(self._pool, key, {}, upload_id=upload_id).abort()
