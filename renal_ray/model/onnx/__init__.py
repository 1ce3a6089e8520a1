"""Keras models as ONNX files, written by Keras itself in a process with TensorFlow."""
