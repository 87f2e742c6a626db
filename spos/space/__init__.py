"""The search space: architectures, layers, costs, names, and what was published."""
