"""Connections to a host: routes, dialling, host keys, and the two kinds of link."""
