"""Releases on hosts: put there whole, built, switched to by a rename, checked, taken back.

::

    settings ── what to deploy, and how           release ─── its name, revision, who and why
    source ──── its files on this machine         rollout ─── the order of steps (pure)
    layout ──── scripts for a host (pure)         target ──── one host: asks the scripts
    locking ─── scripts of the lock (pure)        lease ───── keeps the locks while we live
    records ─── what a host answered (pure)       deployment ─ the rollout over all hosts
    report ──── what became of it                 survey ──── what is there; would it work?
"""
