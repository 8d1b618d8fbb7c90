"""The newest value of everything that moves, by key."""
