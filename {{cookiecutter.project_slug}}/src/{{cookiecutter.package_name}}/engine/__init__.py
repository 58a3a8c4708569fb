"""The engine, which makes streams safe; see README.md.

It is the same in every project, except for the parts that a project lacks.
"""

from . import _missing

_missing.explain(__name__)
