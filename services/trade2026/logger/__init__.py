"""The audit log: who did what when, in a chain of hashes that is signed."""
