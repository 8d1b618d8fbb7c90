"""Measurements: what the platform does per second and how long it takes, with the machine's own limits beside it."""
