"""Watches, by kopf: they only tell the cache what they see."""
