"""renal-ray: the runner of a renal-tumour CT study, from DICOM to every table of the paper."""

__version__ = "0.1.0"
