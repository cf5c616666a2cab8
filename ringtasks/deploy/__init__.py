"""Releases on hosts: sent, built, switched to by a rename, checked, reverted on failure.

::

    settings ── the application and options        release ──── name, revision and author
    repository  git and submodules here            preparing ── from settings and hosts to targets
    source ──── the files on this machine          rollout ──── the order of steps (pure)
    layout ──── scripts for a host (pure)          deployment ─ the rollout over all hosts
    locking ─── scripts of the lock (pure)         target ───── runs the steps on one host
    steps ───── a step as a whole script (pure)    upload ───── sends the files to a host
    records ─── a host's answers (pure)            lease ────── renews the locks during a deploy
    report ──── the results                        changes ──── for inv deploy --diff
"""
