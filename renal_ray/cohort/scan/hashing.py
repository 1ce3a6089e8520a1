"""PatientIDs that say nothing without a key."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from renal_ray.problems import StudyError

KEY_FILE = ".renal-ray-key"


def keyed_hash(key_file: Path) -> Callable[[str], str]:
    """A function from a DICOM PatientID to a patient_id that says nothing without the key.

    Args:
        key_file: holds the key in hexadecimal; made when absent, readable by its owner alone.

    Returns:
        Function that gives the first 16 hexadecimal digits of HMAC-SHA256(key, id).

    Raises:
        StudyError: the key cannot be made or read.
    """
    try:
        if not key_file.exists():
            handle = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32))
        key = bytes.fromhex(key_file.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        raise StudyError(
            f"{key_file}: the key of cohort.keep_ids: false cannot be made or "
            "read; make its folder writable or restore the key"
        ) from None
    if len(key) < 16:
        raise StudyError(
            f"{key_file}: the key is shorter than 16 bytes; restore "
            "it, or remove it to make a new one"
        )
    return lambda patient: hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:16]
