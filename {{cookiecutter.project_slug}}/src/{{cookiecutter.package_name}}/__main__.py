"""The command `serve` (or `python -m`), which runs the service or one of its commands."""

from .app import create_app
from .engine.server import main as run
from .settings import Settings


def main() -> None:
    """Run `serve`, `serve --reload`, or `serve COMMAND`."""
    run(create_app, Settings)


if __name__ == "__main__":
    main()
