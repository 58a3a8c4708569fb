"""The application: settings, the streaming kernel, and the chosen modules, which meet only here."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from . import edge, observability
# {% if cookiecutter.use_download %}
from .download import router as download_router
# {% endif %}
# {% if cookiecutter.use_error_handling %}
from .errors import install as install_errors
# {% endif %}
# {% if cookiecutter.use_realtime %}
from .realtime import open_hub, router as realtime_router
# {% if cookiecutter.use_upload %}
from .realtime.files import file_events
# {% endif %}
# {% endif %}
from .settings import Settings
# {% if cookiecutter.use_upload or cookiecutter.use_download %}
from .storage import check_storage, import_files, open_storage, router as storage_router
# {% endif %}
# {% if cookiecutter.use_upload %}
from .storage.callbacks import Callbacks
# {% endif %}
from .streaming import Kernel
# {% if cookiecutter.use_upload %}
from .upload import AllowedTypes, router as upload_router
# {% if cookiecutter.resumable_uploads %}
from .upload.resumable import open_sessions, router as resumable_router
# {% endif %}
# {% endif %}
# {% if cookiecutter.use_demo_page %}
from .web import router as web_router
# {% endif %}

#: `serve NAME ARGUMENTS…` beside the server itself.
# {% if cookiecutter.use_upload or cookiecutter.use_download %}
COMMANDS: dict[str, Callable[[Settings, list[str]], None]] = {"import": import_files}
#: What is checked before the server listens or a command runs; each may end the process.
CHECKS: list[Callable[[Settings], None]] = [check_storage]
# {% else %}
COMMANDS: dict[str, Callable[[Settings, list[str]], None]] = {}
CHECKS: list[Callable[[Settings], None]] = []
# {% endif %}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Open what the modules need, for as long as the service runs."""
    settings, kernel = app.state.settings, app.state.kernel
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        # {% if cookiecutter.use_realtime %}
        # {% if cookiecutter.use_upload %}
        hub = app.state.hub = await enter(open_hub(settings.realtime, kernel))
        # {% else %}
        app.state.hub = await enter(open_hub(settings.realtime, kernel))
        # {% endif %}
        # {% endif %}
        # {% if cookiecutter.use_upload %}
        # `on_stored` and the others are registered here.
        # {% if cookiecutter.use_realtime %}
        callbacks = Callbacks(AllowedTypes(settings.upload.allowed_types), **file_events(hub))
        # {% else %}
        callbacks = Callbacks(AllowedTypes(settings.upload.allowed_types))
        # {% endif %}
        # {% if cookiecutter.resumable_uploads %}
        storage = app.state.storage = await enter(open_storage(settings.storage, callbacks, kernel))
        app.state.uploads = await enter(open_sessions(storage, settings))
        # {% else %}
        app.state.storage = await enter(open_storage(settings.storage, callbacks, kernel))
        # {% endif %}
        # {% elif cookiecutter.use_download %}
        app.state.storage = await enter(open_storage(settings.storage, kernel=kernel))
        # {% endif %}
        await enter(kernel.running(settings.server))
        yield


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; `settings` default to the environment's."""
    settings = settings or Settings()
    kernel = Kernel(settings.streaming, settings)
    app = FastAPI(
        title="{{ cookiecutter.__project_name }}",
        lifespan=lifespan,
        redirect_slashes=False,  # A redirect would come after a whole body, and lose it.
        telemetry=observability.telemetry(),
    )
    app.state.settings, app.state.kernel = settings, kernel
    # {% if cookiecutter.use_download %}
    app.include_router(download_router)
    # {% endif %}
    # {% if cookiecutter.use_demo_page %}
    app.include_router(web_router)
    # {% endif %}
    observability.install(app)
    # {% if cookiecutter.use_upload or cookiecutter.use_download %}
    app.include_router(storage_router)
    # {% endif %}
    # {% if cookiecutter.use_upload %}
    # {% if cookiecutter.resumable_uploads %}
    app.include_router(resumable_router)
    # {% endif %}
    app.include_router(upload_router)
    # {% endif %}
    # {% if cookiecutter.use_realtime %}
    app.include_router(realtime_router)
    # {% endif %}
    # {% if cookiecutter.use_error_handling %}
    install_errors(app)
    # {% endif %}
    edge.install(app, kernel, settings)
    return app
