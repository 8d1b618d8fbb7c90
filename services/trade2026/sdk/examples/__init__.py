"""Worked strategies: complete, tested, and what the quickstart trades."""
