"""Training of supernets and subnets."""
