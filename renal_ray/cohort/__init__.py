"""Who is in the study: manifests, DICOM trees, KiTS, phantoms."""
