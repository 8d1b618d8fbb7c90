"""Pure: from what is wanted and what is there to what is to be done. No clock, no I/O."""
