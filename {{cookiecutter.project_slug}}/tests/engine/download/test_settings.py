"""Settings that contradict each other are refused in one line, before the service listens."""

import pytest

from {{cookiecutter.package_name}}.app import create_app

from ..service import make_settings


@pytest.mark.local
def test_urls_of_s3_are_refused_for_a_directory() -> None:
    with pytest.raises(SystemExit) as stopped:
        create_app(make_settings(download={"offload": "presigned"})).check()

    line = "APP_DOWNLOAD__OFFLOAD: presigned needs files in S3, see APP_STORAGE__URL"
    assert stopped.value.code == line
