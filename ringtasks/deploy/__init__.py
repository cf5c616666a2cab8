"""Releases on hosts: sent, built, switched to by a rename, checked, reverted on failure.

::

    settings ── the application and options       release ──── name, revision and author
    source ──── the files on this machine         preparing ── from settings and hosts to targets
    layout ──── scripts for a host (pure)         rollout ──── the order of steps (pure)
    locking ─── scripts of the lock (pure)        deployment ─ the rollout over all hosts
    steps ───── a step as a whole script (pure)   target ───── runs the steps on one host
    records ─── the releases of a host (pure)     upload ───── sends the files to a host
    precheck ── obstacles found by precheck (pure)  lease ────── renews the locks during a deploy
    report ──── the results
"""
