"""Where data rests: a port for each kind of store, with its embedded default."""
