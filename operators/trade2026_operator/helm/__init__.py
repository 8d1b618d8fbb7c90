"""Helm releases written from Python: what they are made of, how they are rendered, and the record that Helm reads."""
