"""Connections to a host, over either kind of link.

* `link`: the interface of both kinds.  `link_pool` keeps one open; `execution` runs a script over
  it; `sftp`, `sftp_walk`, `sftp_sides` copy files; `tunnels` forward ports.
* `master/`: the link over an OpenSSH control master.  `inprocess/`: the link over Paramiko.
  `embedded/`: SSH servers in this process, for demos.
* The way to a host: `routes`, `attempts` (their order), `dialing` (the race: `race`), `tcp`,
  `proxies`, `stream`; `rehearsal` makes it fail on purpose.
* Host keys: `pins`, `known_hosts`, `host_keys` (the judgement), `certificates`.
* ssh's own files: `settings_files`, `evaluated_config` (``ssh -G``: `config_query`,
  `deciding_lines`), `keywords` (the meaning of each one here); `generated_config`,
  `config_install`: those that ringtasks writes.
* Failures: `failure_table`, `refused_log_in`, `refused_host_key`, `key_files`; `doctor`.
"""
