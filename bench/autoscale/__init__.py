"""Autoscaling by objectives beside what else an HPA can be given: a simulation with many seeds, and runs on a cluster."""
