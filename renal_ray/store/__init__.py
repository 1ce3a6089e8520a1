"""Arrow and JSON in the work directory: what is written, where, and how it is read back."""
