"""Lesion masks: one reader a kind of file."""
