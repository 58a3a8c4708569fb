"""Access: the roles of API keys.

`serve keys create NAME ROLE` creates a key. A role is a list of scopes, and a change applies to all
keys that have it. Everybody sees only their own files, uploads and runs; `admin` sees all.

A route of yours needs any valid key. Ask for a scope with
`dependencies=[Security(current_principal, scopes=["reports:read"])]`, or mark it with `@public`.
"""

ROLES = {
    "admin": ["admin"],
    "member": [
        # {% if cookiecutter.use_upload or cookiecutter.use_download %}
        *("files:read", "files:delete"),
        # {% endif %}
        # {% if cookiecutter.use_upload %}
        *("files:write", "ingest:write"),
        # {% endif %}
        # {% if cookiecutter.use_download %}
        *("exports:read", "transform:run"),
        # {% endif %}
        # {% if cookiecutter.use_realtime %}
        *("topics:publish:*", "topics:subscribe:*", "runs:start", "runs:follow"),
        # {% endif %}
    ],
    "reader": [
        # {% if cookiecutter.use_upload or cookiecutter.use_download %}
        "files:read",
        # {% endif %}
        # {% if cookiecutter.use_realtime %}
        "topics:subscribe:*",
        # {% endif %}
    ],
    "monitor": ["metrics:read"],
}
