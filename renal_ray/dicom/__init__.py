"""DICOM files: headers, faults and pixels, whatever they are used for."""
