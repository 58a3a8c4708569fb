"""A folder of unfinished uploads that cannot be used is refused in one line."""

from pathlib import Path

import pytest

from ..storage.test_unusable import refusal, volume  # noqa: F401

pytestmark = pytest.mark.local


@pytest.mark.fault("G20")
def test_unfinished_uploads_on_another_volume_are_refused(
    tmp_path: Path,
    volume: Path,  # noqa: F811
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "uploads").symlink_to(volume)

    assert "parts is on another volume than" in refusal(tmp_path / "data")


@pytest.mark.fault("G20")
def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "uploads").write_bytes(b"")

    assert f"{tmp_path / 'data' / 'uploads'}: " in refusal(tmp_path / "data")
