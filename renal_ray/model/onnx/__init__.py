"""Keras models as ONNX graphs, written layer by layer, so that no converter is needed."""
