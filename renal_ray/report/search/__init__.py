"""The search over training settings in the report: what was tried, what came out, and how far the
reader may trust it."""
