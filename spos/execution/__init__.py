"""Execution of single paths through a supernet, for scoring and for training."""
