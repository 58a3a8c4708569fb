"""tuspy: tuspy_client.py SERVICE FILE FOLDER."""

import sys
from pathlib import Path

from tusclient.client import TusClient  # type: ignore[import-not-found]
from tusclient.storage.filestorage import FileStorage  # type: ignore[import-not-found]

service, file, folder = sys.argv[1:]
uploader = TusClient(f"{service}/uploads").uploader(
    file,
    chunk_size=4 << 20,  # otherwise it reads the whole file into memory
    store_url=True,
    url_storage=FileStorage(Path(folder) / "uploads.json"),
)
uploader.upload()
