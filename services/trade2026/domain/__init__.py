"""The words of the field as types: instruments, numbers, orders, events, positions, market data.

Nothing here does I/O, reads a clock or imports another part of the platform.
"""
