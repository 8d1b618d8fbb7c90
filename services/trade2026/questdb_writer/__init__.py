"""Writes what happened into the time-series store, once, and answers queries on it."""
