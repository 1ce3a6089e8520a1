"""Studies side by side. Reads work directories, trains nothing."""
