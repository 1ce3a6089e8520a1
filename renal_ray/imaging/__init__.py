"""From files to HU to the RGB slices that the network sees."""
