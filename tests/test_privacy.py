"""What is in a header stays in it: scan, inspect and prepare on patients with names, birth dates
and institutions, and with every kind of fault."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import small_study
from dicom_files import BIRTH_DATE, save, write_seg, write_series
from typer.testing import CliRunner

from renal_ray.cli import app
from renal_ray.report.inspect.page import write_page
from renal_ray.study_file import study_of_manifest
from renal_ray.sweep.prepare import prepare

LESION = np.zeros((20, 24), np.uint8)
LESION[4:12, 5:14] = 1
SECRETS = ("CANARY", BIRTH_DATE, "4711")


def write_patient(folder: Path, number: int) -> None:
    volume = np.random.default_rng(number).integers(-50, 150, (7, 20, 24)).astype(np.int16)
    slices = write_series(folder / "ct", volume, patient_id=f"CANARY-{number}")
    for item in slices:
        item.InstitutionName, item.InstitutionAddress, item.AccessionNumber = (
            "CANARY HOSPITAL",
            "CANARY STREET",
            "4711",
        )
        item.ReferringPhysicianName, item.SeriesDescription, item.PatientComments = (
            "CANARY^DOCTOR",
            "arterial CANARY",
            "CANARY",
        )
        save(item)
    write_seg(
        folder / "seg.dcm", [(1, slices[k], LESION) for k in (2, 3)], patient_id=f"CANARY-{number}"
    )


def spoil(tree: Path) -> None:
    """A fault of its own for each of some patients."""

    def change(path: Path, found: bytes, instead: bytes) -> None:
        data = path.read_bytes()
        assert found in data
        path.write_bytes(data.replace(found, instead, 1))

    change(
        sorted((tree / "1/ct").iterdir())[2], b"\x28\x00\x30\x00DS", b"\x28\x00\x31\x00DS"
    )  # no pixel spacing
    change(
        sorted((tree / "2/ct").iterdir())[3], b"ORIGINAL\\PRIMARY", b"CANARY\\CANARY\\CAN"
    )  # rescaled to what?
    path = sorted((tree / "3/ct").iterdir())[4]
    path.write_bytes(path.read_bytes()[:-200])
    sorted((tree / "4/ct").iterdir())[1].unlink()
    change(tree / "5/seg.dcm", b"BINARY", b"CANARY")
    path = tree / "6/seg.dcm"
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])


@pytest.mark.usefixtures("local_ray")
def test_nothing_of_a_header_is_told_by_any_command(tmp_path, capfd, caplog):
    tree, told = tmp_path / "tree", tmp_path / "told"
    told.mkdir()
    for number in range(12):
        write_patient(tree / str(number), number)
    spoil(tree)
    scanned = CliRunner().invoke(app, ["scan", str(tree), "-o", str(told / "m.csv")])
    assert scanned.exit_code == 0, scanned.output
    table = pd.read_csv(told / "m.csv", keep_default_na=False)
    assert len(table) == 12
    table["label"] = [number % 2 for number in range(12)]
    table.to_csv(told / "m.csv", index=False)
    seen = write_page(study_of_manifest(told / "m.csv"), told / "page.html")
    found = prepare(
        small_study(
            told / "work",
            cohort={"manifest": str(told / "m.csv")},
            folds={"n": 2, "method": "stratified"},
        )
    )
    assert seen.refused == len(found.quarantined) >= 5
    said = (
        scanned.output
        + "".join(capfd.readouterr())
        + caplog.text
        + json.dumps([one.row() for one in found.quarantined + found.warnings])
    )
    for secret in SECRETS:
        assert secret not in said
    for path in told.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [secret for secret in SECRETS if secret.encode() in data], path.name
