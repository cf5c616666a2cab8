"""OpenSSH control masters, spoken to directly: connections that outlive who made them.

``wire`` is the codec, ``control`` a conversation with a master, ``session`` a program on the host,
``master`` and ``start`` the ``ssh`` processes, and ``link`` puts them together.  With a live master
neither Fabric nor Paramiko is loaded, but for SFTP.
"""
