"""Accuracy of candidates by a trained supernet."""
