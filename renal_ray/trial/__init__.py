"""One trial from spec to result. Plain Python, no Ray."""
