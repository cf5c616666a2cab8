"""`SSHClient` and what it answers with: one host, one call at a time."""
