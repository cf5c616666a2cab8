"""OpenSSH control masters: connections that outlive the process that made them.

A master is one ``ssh`` in the background; a process that may open its socket runs programs over its
connection (OpenSSH's ``PROTOCOL.mux`` and ``mux.c``).  From the caller down:

* `open`: a link over the existing master, else over a new one.
* `log_in`: a new master, over the first route that works, started by one process at a time.
  `start`: the ``ssh`` that becomes the master; `command`: its arguments; `trust`: its known-hosts
  files; `algorithms`; `stderr_errors`: its stderr, as our errors.
* `link` (`MuxLink`): the link that a client uses.  `session` (`session_streams`): a program;
  `sftp`, `sftp_stream`: files; `tunnel`: a port of the host; `channel`: the Paramiko calls that
  Fabric makes.
* `lookup`: the master that may be used; `running_masters`: the list of all, and ending them.
  `identity`: the name of a connection; `folder`: the folder of the sockets; `records`: the file
  beside each socket; `client_links`: the sockets' names for OpenSSH's own clients; `usage`: the
  sessions that use a master; `processes`.
* `control`: a dialogue with a master; `wire`: its codec, pure.
"""
