"""The shell around every service's pure machine: bus, HTTP, probes, metrics, identity, settings, recovery."""
