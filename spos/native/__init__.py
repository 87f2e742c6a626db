"""Native kernels for the CPU: their sources, how they are built, and the programs that they run."""
