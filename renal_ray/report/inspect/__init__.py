"""Contact sheets: what was read of every patient, for a person to page through."""
