"""The engine: what makes streams safe. README.md says what it is, and how it is updated.

It is the same in every project, but for the parts that the project does not have.
"""

from . import _missing

_missing.explain(__name__)
