"""A page about a pipeline: python -m utils.report."""
