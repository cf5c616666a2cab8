"""The output for people and programs: tables, progress, JSON lines, reports, plots."""
