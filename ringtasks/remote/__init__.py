"""Scripts, launchers, quoting and paths for hosts. Pure text."""
