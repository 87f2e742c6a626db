"""Trained subnets on their way to use: BatchNorm merging, export, INT8, ONNX, prediction."""
