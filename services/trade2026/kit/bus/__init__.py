"""The bus: `port` says what it promises; `memory` and `sqlite` are its backends here."""
