"""What runs on hosts: scripts, launchers, quoting and paths. Pure text."""
