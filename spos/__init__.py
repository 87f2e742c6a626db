"""Single-Path One-Shot neural architecture search on MXNet Gluon: the library below the programs."""

__version__ = "0.1.0"
