"""Read the logs of training programs: the metrics that they print, each at its place in the run.

Layers, each pure and importing only those before it:

- ``lines``: bytes to lines; ``numbers`` and ``words``: the forms of numbers, and the meaning of
  names
- ``text`` and ``places``, ``dicts`` and ``printed``, ``grammar``: the content of one line, of any
  trainer
- ``bars``, ``keras``, ``tables``, ``blocks``: layouts that need the lines before
- ``history``: points at their places; ``resolve``: steps that only the whole log determines
- ``axes``: the x of points
- ``reader``: all of them on one stream

A wrong value is worse than a missing one: values that cannot be read for certain are left out.
"""

from .history import History
from .reader import LogReader
from .resolve import Resolved, resolved

__all__ = ["History", "LogReader", "Resolved", "resolved"]
