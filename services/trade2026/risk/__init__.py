"""The risk service: versions of the limits, exposure on demand, alerts, and the kill switch."""
