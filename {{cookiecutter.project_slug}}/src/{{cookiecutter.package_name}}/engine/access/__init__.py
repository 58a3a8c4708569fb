"""API keys, one-time tickets and signed links: they decide who may do what.

Every route needs a valid credential, unless it is marked with `public`. The scopes of a key allow
what the engine's routes do; `Security(current_principal, scopes=["reports:read"])` asks for one in
the owner's routes.

* `keys`: the form of a key, and its record; `store`: keys, tickets and secrets.
* `database`: their tables, in a file; `bucket`: in the bucket of the files, if that was chosen.
* `credentials`: where a request may have one; `middleware`: authenticates every request.
* `tickets`: `GET /access`, and `POST /tickets` for clients that cannot send headers;
  `links`: signed paths.
* `commands`: `serve keys create | list | revoke | rotate | adopt`.

Settings: `APP_ACCESS__…`. Sources: RFC 6750 (bearer tokens); RFC 9110, section 11 (authentication).
"""

from .part import Access
from .settings import AccessSettings

__all__ = ["Access", "AccessSettings"]
