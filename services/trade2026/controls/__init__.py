"""Pre-trade controls: limits as data and one pure machine that checks an order against them.

Enforced by the order service, and answered from by the risk service; both fold the same events.
"""
