"""Training runs: a host is chosen and checked, the run followed, its files fetched.

From the bottom up: `metrics` and `curves` read logs, `braille`, `svg` and `figure` draw them;
`settings` says what to run; `survey`, `preflight` and `choice` where; `supervision` sees it
through.
"""
