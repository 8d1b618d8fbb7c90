"""What the log has dropped, in the lake: written by the archive, read by whoever reads the log that far back."""
