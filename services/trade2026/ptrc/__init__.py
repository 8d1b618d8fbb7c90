"""Post-trade: positions with lots, reconciliation against venues, transaction reports."""
