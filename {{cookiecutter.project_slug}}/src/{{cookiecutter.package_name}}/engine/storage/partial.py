"""What is known of an upload that arrives in several requests, and the tables of these."""

from pydantic import BaseModel, ConfigDict, Field

from .records import Draft, new_id

UNFINISHED = (
    "json_extract(state, '$.completed_at') IS NULL AND json_extract(state, '$.expired_at') IS NULL"
)
OWNER = "json_extract(state, '$.draft.owner')"
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS uploads (id TEXT PRIMARY KEY, state TEXT NOT NULL)",
    f"CREATE INDEX IF NOT EXISTS unfinished ON uploads ({OWNER}) WHERE {UNFINISHED}",
    # Which uploads consist of which parts; kept as long as the part, to count how often it is used.
    "CREATE TABLE IF NOT EXISTS wholes (part TEXT, whole TEXT, PRIMARY KEY (part, whole))"
    " WITHOUT ROWID",
)


class Partial(BaseModel):
    """What is known of an upload; `fields` are the headers that a protocol must repeat."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(default_factory=new_id)
    draft: Draft
    length: int | None = None
    fields: dict[str, str] = {}
    rollback: int | None = None
    #: Whether the upload becomes a file by itself when `length` bytes are there.
    completes: bool = False
    #: Whether it is only there to become a part of others, and never a file.
    is_part: bool = False
    #: The uploads whose bytes are its own, in this order.
    parts: tuple[str, ...] = ()
    completed_at: float | None = None
    #: When its bytes were removed; then it is only there to be known for one that has been.
    expired_at: float | None = None
