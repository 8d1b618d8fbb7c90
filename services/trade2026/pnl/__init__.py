"""Profit and loss per account, strategy and symbol, with the equity curve."""
