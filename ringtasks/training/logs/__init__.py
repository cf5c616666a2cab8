"""Read the logs of training programs: which metrics they print, and where in the run.

Layers, each pure and importing only those before it:

- ``lines`` and ``wrapped_lines``: bytes to lines; ``numbers`` and ``words``: numbers, and the
  meaning of names
- ``logger_prefix``, ``text_lines`` and ``positions``, ``dicts`` and ``dict_lines``,
  ``line_parser``: the content of one line, of any trainer
- ``shapes``, ``template_cache``: what was found in a line, for lines that differ in digits alone
- ``bar_lines`` and ``bars``, ``keras``, ``tables``, ``key_value_tables``, ``multiline``:
  layouts that need the lines before
- ``whole_lines``, ``detection``: lines of one trainer, and results of object detection
- ``trials``: folds and trials, whose metrics have the same names; ``sections``: headings that name
  a part of the data; ``rank_prefixes``: ranks in front of all lines
- ``line_reader``: all of them, line by line
- ``metric_files``, ``event_files``: what trainers write beside the log
- ``points``, ``extremes`` and ``series``: the points of one metric; ``history``: all points at
  their positions
- ``resolve``: steps that only the whole log gives away; ``axes``: the x of points
- ``known_words``, ``forms``: lines that differ in words that no reader knows, too
- ``patterns``, ``plain_lines``, ``template_ids``, ``number_columns``, ``columns``,
  ``pattern_rows``, ``bulk_reader``: the same for many lines of known templates or forms, with
  NumPy; for bars: ``bar_rows``, ``bar_steps``, ``bar_columns``; for Keras: ``keras_columns``;
  ``segments``, ``bulk_history``: the points of such lines
- ``reader``: a stream of output to a history

A wrong value is worse than none: what cannot be read for certain is left out.
"""

from .history import History
from .reader import LogReader
from .resolve import Resolved, resolved

__all__ = ["History", "LogReader", "Resolved", "resolved"]
