"""Files, journals and run directories."""
