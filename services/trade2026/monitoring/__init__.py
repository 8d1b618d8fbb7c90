"""Health and service levels of the whole stack: error budgets, burn rates, alerts, incidents."""
