"""The history: every order and where its events are, and the snapshots of the order log."""
