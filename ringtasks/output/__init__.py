"""What people and programs see: tables, progress, JSON lines, reports, plots."""
