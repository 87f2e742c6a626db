"""Tools run on saved files, one module each: `python -m utils.NAME --help`, or from anywhere by their file."""
