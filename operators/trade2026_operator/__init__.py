"""The operator: makes of a TradingStack what runs in a cluster."""
