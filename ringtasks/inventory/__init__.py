"""Hosts files, selection of hosts, and the settings to reach one (`SSHConfig`)."""
