"""Errors, flags, tables, seeds, processes, statistics: what every room may use. Nothing here knows of networks."""
