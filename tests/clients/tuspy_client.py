"""tuspy: tuspy_client.py SERVICE FILE FOLDER.

It keeps the offset of each response in the folder, and fails if the service has fewer bytes later.
"""

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
kept = Path(folder) / f"{Path(file).name}.offset"
acknowledged = int(kept.read_text()) if kept.exists() else 0
assert uploader.offset >= acknowledged, f"{acknowledged} bytes were acknowledged"
while uploader.offset < uploader.get_file_size():
    uploader.upload_chunk()
    kept.write_text(str(uploader.offset))
