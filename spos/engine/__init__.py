"""MXNet as it is used here: set-up, devices, BatchNorm, forms of execution, parameter files, clusters."""
