"""What was found, as DICOM objects that refer to the images it was found on."""
