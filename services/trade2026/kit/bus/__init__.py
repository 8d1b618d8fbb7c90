"""The bus: `port` says what it promises; `memory` and `sqlite` are its backends here, `kafka` that of a cluster."""
