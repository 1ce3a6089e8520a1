"""The study's arithmetic: splits, folds, balancing, thresholds, metrics, votes. Numbers only."""
