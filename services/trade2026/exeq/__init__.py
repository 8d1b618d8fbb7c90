"""Execution: parent orders worked into children over time."""
