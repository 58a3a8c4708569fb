"""Access: the roles of API keys.

`serve keys create NAME ROLE` creates a key. A role is a list of scopes; a change of it applies to
all keys that have it. Everybody sees only their own files, uploads and runs; `admin` sees all.

A route of yours needs any valid key. Ask for a scope with
`dependencies=[Security(current_principal, scopes=["reports:read"])]`, or mark it with `@public`.
"""

ROLES = {
    "admin": ["admin"],
    "member": [
        *("files:read", "files:write", "files:delete"),
        *("topics:subscribe:*", "topics:publish:*"),
        *("runs:start", "runs:follow"),
    ],
    "reader": ["files:read", "topics:subscribe:*", "runs:follow"],
    "monitor": ["metrics:read"],
}
