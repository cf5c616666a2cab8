"""Embedded demo hosts: real SSH servers on loopback, in this process."""
