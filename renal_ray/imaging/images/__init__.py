"""CT images: one reader a kind of file."""
