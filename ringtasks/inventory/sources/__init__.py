"""Hosts that others keep the list of: rental services, the tailnet, programs.

`loader` reads the ``sources:`` section (`section`), takes each source's hosts from its cache or
fetches them (`answers`), and merges them with those of the hosts files (`merge`).
"""
