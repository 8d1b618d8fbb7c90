"""Alternative data: whatever has a registered schema, checked, kept once, and answered as it was known at a time."""
