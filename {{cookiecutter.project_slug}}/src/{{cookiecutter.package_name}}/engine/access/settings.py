"""The settings of the access control."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..kernel.limits import Duration, Section


class AccessSettings(Section):
    """The access control: `APP_ACCESS__…`."""

    database: Path = Path("data/access.sqlite3")
    """The keys, tickets and secrets, which all workers share; not used with a bucket."""
    public_docs: bool = True
    """Whether `/docs`, `/redoc` and the OpenAPI documents need no key."""
    public_metrics: bool = False
    """Whether `/metrics` needs no key; otherwise its scope is `metrics:read`."""
    ticket_age: Annotated[Duration, Field(gt=0, le=600)] = 30.0
    """Seconds in which a ticket can be used."""
    link_age: Annotated[Duration, Field(gt=0)] = 86400.0
    """Maximum seconds for which a signed link is valid."""
    grace: Duration = 10.0
    """Seconds that requests have to end after their key has expired or was revoked."""
    max_failures: Annotated[int, Field(gt=0)] = 30
    """Wrong credentials per minute and address, after which more of them get 429."""
