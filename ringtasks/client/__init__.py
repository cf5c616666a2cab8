"""`SSHClient` and its results: one host, one call at a time."""
