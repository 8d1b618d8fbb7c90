"""Market data made of market data: pure, so that the normalizer, a strategy and a test build the same bars."""
