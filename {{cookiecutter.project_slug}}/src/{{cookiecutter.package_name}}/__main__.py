"""`python -m`: the same as the `serve` command."""

from .server.cli import main

if __name__ == "__main__":
    main()
