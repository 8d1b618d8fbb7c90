"""A Kubernetes cluster of one node on this machine, for those without kind: no Docker, no registry, no systemd.

`trade2026 cluster …` drives it. Its programs are built once by Go (`binaries`); everything that runs, runs in network,
mount and process namespaces of its own below one process, `init.sh`, so that its end is the end of all of it.
"""
