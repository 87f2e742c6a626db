"""Search strategies, their histories and reports."""
