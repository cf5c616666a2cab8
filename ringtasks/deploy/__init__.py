"""Releases on hosts: put there whole, built, switched to by a rename, checked, taken back.

::

    settings ── what to deploy, and how           release ──── its name, revision, who and why
    source ──── its files on this machine         preparing ── from settings and hosts to targets
    layout ──── scripts for a host (pure)         rollout ──── the order of steps (pure)
    locking ─── scripts of the lock (pure)        deployment ─ the rollout over all hosts
    steps ───── a step as a whole script (pure)   target ───── one host: has its steps run
    records ─── what a host answered (pure)       upload ───── the files to a host
    survey ──── would it work? (pure)             lease ────── keeps the locks while we live
    report ──── what became of it
"""
