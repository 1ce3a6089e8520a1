"""A search over training settings, in plain Python: what is tried, on which folds, when it is given
up, and what comes out. No Ray."""
