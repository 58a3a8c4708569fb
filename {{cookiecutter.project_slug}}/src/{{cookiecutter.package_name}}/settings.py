"""The settings: environment variables with the prefix `APP_`, and `.env` in development.

Each part of the service has a section; `APP_SERVER__PORT=80` sets `settings.server.port`.
"""

# {% if cookiecutter.auth == "api-key" %}
from .engine.access import AccessSettings
# {% endif %}
# {% if cookiecutter.use_download %}
from .engine.download import DownloadSettings
# {% endif %}
# {% if cookiecutter.use_realtime %}
from .engine.realtime import RealtimeSettings
# {% endif %}
from .engine.settings import ServiceSettings
# {% if cookiecutter.use_upload or cookiecutter.use_download %}
from .engine.storage import StorageSettings
# {% endif %}
# {% if cookiecutter.use_upload and cookiecutter.resumable_uploads %}
from .engine.upload.resumable import ResumableUploadSettings
# {% elif cookiecutter.use_upload %}
from .engine.upload import UploadSettings
# {% endif %}


class Settings(ServiceSettings):
    """All settings of the service; `server`, `cors`, `log` and `streaming` are inherited."""

    # {% if cookiecutter.auth == "api-key" %}
    access: AccessSettings = AccessSettings()
    # {% endif %}
    # {% if cookiecutter.use_upload or cookiecutter.use_download %}
    storage: StorageSettings = StorageSettings()
    # {% endif %}
    # {% if cookiecutter.use_upload and cookiecutter.resumable_uploads %}
    upload: ResumableUploadSettings = ResumableUploadSettings()
    # {% elif cookiecutter.use_upload %}
    upload: UploadSettings = UploadSettings()
    # {% endif %}
    # {% if cookiecutter.use_download %}
    download: DownloadSettings = DownloadSettings()
    # {% endif %}
    # {% if cookiecutter.use_realtime %}
    realtime: RealtimeSettings = RealtimeSettings()
    # {% endif %}
    # {% set c = cookiecutter %}
    # {% if c.use_upload or c.use_download or c.use_realtime or c.auth == "api-key" %}

    # {% endif %}
    # Your own settings: `APP_DATABASE_URL` sets this one.
    # database_url: str = "sqlite+aiosqlite:///service.sqlite3"
