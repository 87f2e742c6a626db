"""Studies: strategies compared, supernets against networks trained alone."""
