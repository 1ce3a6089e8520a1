"""From folders of mixed files to a manifest: who is there, which series, which mask."""
