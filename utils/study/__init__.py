"""Figures and tables of a study: python -m utils.study."""
