"""A short run of the fuzzer; `make fuzz` makes 20,000 inputs."""

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.seeds import write_seeds

from renal_ray.config import Cohort, Selection
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import PatientError


def test_a_few_hundred_spoilt_inputs_are_read_or_refused_with_a_code(tmp_path):
    command = [
        sys.executable,
        str(Path(__file__).parent / "fuzz"),
        "--inputs",
        "400",
        "--workers",
        "1",
        "--seed",
        "7",
        "--failures",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "400 inputs, 0 failures" in done.stdout


@pytest.mark.parametrize(
    ("what", "found", "instead"),
    [
        (
            "ct",
            b"\xe0\x7f\x10\x00OW",
            b"\xe0\x7f\x10\x00NW",
        ),  # a value representation that does not exist, on the pixels
        ("mask", b"\x20\x00\x32\x00DS", b"\x20\x00\x32\x00LO"),  # a position that is no number
    ],
)
def test_what_the_fuzzer_found(tmp_path, what, found, instead):
    patient = next(seed for seed in write_seeds(tmp_path / "seeds") if seed.folder.name == "series")
    for path in (patient.folder / what).iterdir():
        data = path.read_bytes()
        assert found in data
        start = data.index(found)
        spoilt = data.replace(found, instead)
        path.write_bytes(
            spoilt if what == "ct" else spoilt[: start + 8] + b"\xfe\xff" + spoilt[start + 10 :]
        )
    with pytest.raises(PatientError):
        read_patient(
            patient.image, patient.mask, cohort=Cohort(manifest="unused.csv"), selection=Selection()
        )
