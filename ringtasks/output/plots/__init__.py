"""Curves of training runs as pictures."""
