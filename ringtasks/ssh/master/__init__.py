"""OpenSSH control masters: connections that outlive the process that made them.

A master is one ``ssh`` in the background; whoever may open its socket runs programs over its
connection (OpenSSH's ``PROTOCOL.mux`` and ``mux.c``).  From the caller down:

* `opening`: a link over the master that is there, else over a new one;
  `eligibility`: which connections a master can hold.
* `log_in`: a new master, by whichever route works, one process at a time; `failures`: what the
  others are told.  `start`: the ``ssh`` that becomes it; `command`: its arguments; `algorithms`;
  `complaints`: its last words, as our errors.
* `link` (`MuxLink`): what a client uses.  `session`: a program; `sftp`, `sftp_stream`: files;
  `tunnel`: a port of the host; `channel`: what Fabric calls of Paramiko.
* `master`: which there are, which may be used, ending them.  `identity`: the name of a connection;
  `folder`: where the sockets are; `records`: what is known of each; `usage`: who uses it; `locks`;
  `processes`.
* `control`: a conversation with a master; `wire`: its codec, pure.
"""
