"""The application: parts of the engine and your routers, in any order."""

# {% set c = cookiecutter %}
# {% if c.use_upload or c.use_download or c.use_realtime or c.use_demo_page or c.auth != "none" %}
from . import (
    # {% if cookiecutter.auth == "api-key" %}
    access,
    # {% endif %}
    # {% if cookiecutter.use_realtime and cookiecutter.use_chat %}
    chat,
    # {% endif %}
    # {% if cookiecutter.use_download %}
    exports,
    # {% endif %}
    # {% if cookiecutter.use_upload %}
    files,
    ingest,
    # {% endif %}
    # {% if cookiecutter.use_realtime %}
    runs,
    # {% endif %}
    # {% if cookiecutter.use_download %}
    transforms,
    # {% endif %}
    # {% if cookiecutter.use_demo_page %}
    web,
    # {% endif %}
)
# {% endif %}
# {% if cookiecutter.auth == "api-key" %}
from .engine.access import Access
# {% endif %}
# {% if cookiecutter.use_download %}
from .engine.download import Downloads
# {% endif %}
# {% if cookiecutter.use_error_handling %}
from .engine.errors import ProblemDocuments
# {% endif %}
# {% if cookiecutter.use_realtime %}
from .engine.realtime import Realtime
# {% if cookiecutter.use_upload %}
from .engine.realtime.files import file_events
# {% endif %}
# {% endif %}
from .engine.service import Service
# {% if cookiecutter.use_upload or cookiecutter.use_download %}
from .engine.storage import Files
# {% endif %}
# {% if cookiecutter.use_upload %}
from .engine.upload import Uploads
# {% if cookiecutter.resumable_uploads %}
from .engine.upload.resumable import ResumableUploads
# {% endif %}
# {% endif %}
from .settings import Settings


def create_app(settings: Settings | None = None) -> Service:
    """Create the application; `settings` are read from the environment by default."""
    app = Service(
        settings or Settings(),
        # {% if cookiecutter.auth == "api-key" %}
        Access(access.ROLES),
        # {% endif %}
        # {% if cookiecutter.use_realtime and cookiecutter.use_upload %}
        Files(files.callbacks, file_events),
        # {% elif cookiecutter.use_upload %}
        Files(files.callbacks),
        # {% elif cookiecutter.use_download %}
        Files(),
        # {% endif %}
        # {% if cookiecutter.use_upload %}
        Uploads(),
        # {% if cookiecutter.resumable_uploads %}
        ResumableUploads(),
        # {% endif %}
        # {% endif %}
        # {% if cookiecutter.use_download %}
        Downloads(),
        # {% endif %}
        # {% if cookiecutter.use_realtime %}
        Realtime(),
        # {% endif %}
        # {% if cookiecutter.use_error_handling %}
        ProblemDocuments(),
        # {% endif %}
    )
    # {% if cookiecutter.use_download %}
    app.include_router(exports.router)
    app.include_router(transforms.router)
    # {% endif %}
    # {% if cookiecutter.use_upload %}
    app.include_router(ingest.router)
    # {% endif %}
    # {% if cookiecutter.use_realtime %}
    app.include_router(runs.router)
    # {% if cookiecutter.use_chat %}
    app.include_router(chat.router)
    # {% endif %}
    # {% endif %}
    # {% if cookiecutter.use_demo_page %}
    app.include_router(web.router)
    # {% endif %}
    return app
