"""The local runner: the planner's releases as processes on one machine."""
