"""Sampling of architectures: limits, exact draws, channel warm-up."""
