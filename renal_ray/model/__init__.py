"""InceptionV3 cut in two, and the heads on it. Keras 3, any backend."""
