"""Figures: python -m utils.plot."""
