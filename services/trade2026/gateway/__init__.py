"""The venue of a stack without an exchange: recorded trades, a book derived from them, and paper orders."""
