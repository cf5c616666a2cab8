"""The health of hosts and routes, and the file that keeps it."""
