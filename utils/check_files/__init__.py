"""A fuzz test of every reader of files."""
