"""Hosts files, selection of hosts, and how to reach one (`SSHConfig`)."""
