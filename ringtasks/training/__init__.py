"""Training runs: choose and check hosts, follow the run, fetch its files.

From the bottom up: `logs` and `curves` read logs; `settings` holds the settings of a run; `probe`,
`preflight`, `choice` and `placement` select its hosts; `supervisor` follows it to its end.
"""
