"""Read the logs of training programs: which metrics they print, and where in the run.

Layers, each pure and importing only those before it:

- ``lines``: bytes to lines; ``numbers`` and ``words``: what counts as a number, and what names mean
- ``text`` and ``places``, ``dicts`` and ``printed``, ``grammar``: what one line tells, whatever
  printed it
- ``shapes``: what the readers of one line found, for lines that differ in digits alone
- ``plans``, ``segments``: many lines of known shapes at once
- ``bars``, ``keras``, ``tables``, ``blocks``: layouts that need the lines before
- ``metric_files``, ``event_files``: what trainers write beside the log
- ``history``: points at their places; ``resolve``: steps that only the whole log gives away
- ``axes``: the x of points
- ``reader``: all of them on one stream

A wrong value is worse than none: what cannot be read for certain is left out.
"""

from .history import History
from .reader import LogReader
from .resolve import Resolved, resolved

__all__ = ["History", "LogReader", "Resolved", "resolved"]
