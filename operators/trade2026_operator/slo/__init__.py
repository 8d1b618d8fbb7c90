"""From latency objectives to replicas: pure."""
