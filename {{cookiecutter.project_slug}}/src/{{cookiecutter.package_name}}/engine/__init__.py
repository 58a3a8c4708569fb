"""The streaming engine; see README.md.

It is the same in every project, except that parts which were not selected are missing.
"""

from . import _missing

_missing.explain(__name__)
