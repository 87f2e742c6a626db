"""Latency tables: measured, fitted, predicted."""
