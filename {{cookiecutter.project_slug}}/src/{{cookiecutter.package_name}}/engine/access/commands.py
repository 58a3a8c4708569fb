"""`serve keys`: create, list and revoke keys; running workers notice it within a second."""

import argparse
import sys
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

from ..kernel.access import NAME
from .store import KeyStore

#: The longest validity of a key with an end.
MAX_DAYS = 36500
HELP = "scopes such as `files:read`, or roles of access.py"


def run(
    store: KeyStore,
    roles: Collection[str],
    link_age: float,
    adopt: Callable[[str], None],
    arguments: list[str],
) -> None:
    """Run `serve keys ARGUMENT…`; exit with 1 and one line if that fails."""
    options = _parser().parse_args(arguments)
    match options.action:
        case "create":
            _check(options, roles)
            seconds = None if options.days is None else options.days * 86400
            owner = options.owner or options.name
            try:
                secret = store.create(owner, options.grants, options.name, seconds)
            except ValueError as error:
                sys.exit(str(error))
            sys.stdout.write(f"{secret}\n")
        case "list":
            for key in store.keys.values():
                state = key.flaw() or "valid"
                until = f" until {_day(key.expires_at)}" if key.expires_at else ""
                grants = " ".join(key.grants)
                sys.stdout.write(f"{key.name}: {key.principal.id}, {grants}, {state}{until}\n")
        case "revoke":
            if not store.revoke(options.name):
                sys.exit(f"There is no key with the name {options.name}")
        case "rotate":
            store.rotate(0 if options.now else link_age)
        case "adopt":
            _check_names(options.owner)
            adopt(options.owner)


def _check(options: Any, roles: Collection[str]) -> None:
    _check_names(options.name, options.owner or options.name)
    if options.days is not None and not 0 < options.days <= MAX_DAYS:
        sys.exit(f"--days {options.days:g}: more than 0, and at most {MAX_DAYS}")
    for grant in options.grants:
        if grant != "".join(grant.split()):  # The database separates them with spaces.
            sys.exit(f"{grant!r}: a scope has no spaces")
        if ":" not in grant and grant not in roles:
            sys.exit(f"{grant!r} is neither a scope nor one of the roles {', '.join(roles)}")


def _check_names(*names: str) -> None:
    for name in names:
        if not NAME.fullmatch(name):
            sys.exit(f"{name!r}: letters, digits, _ and -, at most 64")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve keys", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    add = actions.add_parser("create", help="create a key, and print it once")
    add.add_argument("name", help="the unique name of the key")
    add.add_argument("grants", nargs="+", metavar="GRANT", help=HELP)
    add.add_argument("--owner", help="the owner of what is created with it; by default its name")
    add.add_argument("--days", type=float, help="days until it expires; by default it does not")
    actions.add_parser("list", help="list the keys, without their secrets")
    actions.add_parser("revoke", help="revoke a key").add_argument("name")
    rotate = actions.add_parser("rotate", help="sign links with a new secret")
    rotate.add_argument("--now", action="store_true", help="refuse all links that exist")
    adopt = actions.add_parser("adopt", help="give an owner to files from before access control")
    adopt.add_argument("owner", help="the owner, as in `create --owner`")
    return parser


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
