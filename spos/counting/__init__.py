"""Counting of multiply-adds and parameters, and what is shown of it."""
