"""A study's fold models as a directory for other programs."""
