"""Market data into the lake: every record of `market.*` once, whatever is killed when."""
