"""The Structured Report and the Secondary Capture, read back by pydicom and highdicom and held
against the standard's own tables."""

import io
import json
import shutil
import subprocess
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from conftest import SmallWork
from pydicom.uid import generate_uid

from renal_ray.apply.case import Case
from renal_ray.apply.chosen import choose, open_run
from renal_ray.apply.dicom_out.about import describe_study
from renal_ray.apply.dicom_out.capture import secondary_capture
from renal_ray.apply.dicom_out.report import structured_report
from renal_ray.apply.dicom_out.sources import Sources, read_sources
from renal_ray.apply.familiar import Placed
from renal_ray.apply.pictures import sheet, tiles
from renal_ray.apply.prediction import DISCLAIMER, Prediction
from renal_ray.apply.reading import read_case
from renal_ray.apply.voters import Vote, Voter
from renal_ray.cohort.manifest import read_manifest
from renal_ray.types import Dataset

PLACED = (
    Placed("embedding distance", 2.5, 97.0, 60, True),
    Placed("lesion mean HU as seen", 40.0, 50.0, 60, False),
    Placed("lesion SD of HU as seen", 20.0, 50.0, 60, False),
)


def case_of(manifest: Path) -> Case:
    row = read_manifest(manifest).iloc[0]
    return Case(row["patient_id"], Path(row["image"]), Path(row["mask"]))


def prediction_of(case: Case, small: SmallWork) -> Prediction:
    """A patient as read, with a vote and an attention that nobody computed."""
    chosen = choose(open_run(small.study, small.work))
    seen = read_case(case, small.study, Dataset.ROI)
    voters = (
        Voter(0, chosen.voters[0].trial_id, 0.75, 0.5, 0.75, 1),
        Voter(1, chosen.voters[1].trial_id, 0.25, 0.1, 0.25, 1),
    )
    n = len(seen.slices.slice_index)
    vote = Vote(voters, 2, 1, 0.5, np.linspace(0.2, 0.8, n), {})
    attention = np.random.default_rng(0).random(
        (n, small.study.images.size, small.study.images.size), dtype=np.float32
    )
    return Prediction(chosen, seen, vote, PLACED, attention)


@pytest.fixture(scope="module")
def prediction(finished: SmallWork, phantom_manifest: Path) -> Prediction:
    return prediction_of(case_of(phantom_manifest), finished)


@pytest.fixture(scope="module")
def sources(prediction: Prediction) -> Sources:
    return sources_of(prediction)


def sources_of(prediction: Prediction) -> Sources:
    return read_sources(
        prediction.seen.case, prediction.seen.slices.slice_index, prediction.chosen.run.study.cohort
    )


def again(dataset: pydicom.Dataset) -> io.BytesIO:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return buffer


def kept_uids(prediction: Prediction) -> list[str]:
    """SOPInstanceUIDs of the kept slices, found without the program: files sorted from head to
    foot."""
    headers = [
        pydicom.dcmread(path, stop_before_pixels=True)
        for path in prediction.seen.case.image.iterdir()
        if path.suffix == ".dcm"
    ]
    headers = sorted(
        (one for one in headers if one.Modality == "CT"),
        key=lambda one: -float(one.ImagePositionPatient[2]),
    )
    return [headers[k].SOPInstanceUID for k in prediction.seen.slices.slice_index]


def require_standard(dataset: pydicom.Dataset) -> int:
    """Every element of type 1 and 2 of the mandatory modules, by the standard's tables as highdicom
    carries them; returns how many were asked for."""
    tables = {
        name: json.loads(
            files("highdicom._standard").joinpath(f"{name}.json").read_text(encoding="utf-8")
        )
        for name in ("sop_class_iod_map", "iod_module_map", "module_attribute_map")
    }
    asked = 0
    for module in tables["iod_module_map"][tables["sop_class_iod_map"][str(dataset.SOPClassUID)]]:
        if (
            module["usage"] != "M" or module["key"] == "sr-document-content"
        ):  # what a content item has to hold depends on its kind: srread looks at that
            continue
        for attribute in tables["module_attribute_map"][module["key"]]:
            if attribute["type"] not in ("1", "2"):
                continue
            for holder in reached(dataset, attribute["path"]):
                asked += 1
                assert attribute["keyword"] in holder, (
                    f"{module['key']}: "
                    f"{'/'.join([*attribute['path'], attribute['keyword']])} "
                    "is missing"
                )
                if attribute["type"] == "1":
                    value = holder[attribute["keyword"]]
                    assert value.VM or (value.VR in ("OB", "OW") and value.value), (
                        f"{module['key']}: {attribute['keyword']} is empty"
                    )
    return asked


def reached(dataset: pydicom.Dataset, path: list[str]) -> list[pydicom.Dataset]:
    """The items at a path of sequences, as far as they are there."""
    holders = [dataset]
    for step in path:
        holders = [item for holder in holders if step in holder for item in holder[step].value]
    return holders


def test_report_says_what_was_found(prediction: Prediction, sources: Sources) -> None:
    read = hd.sr.srread(again(structured_report(prediction, sources)))
    assert isinstance(read, hd.sr.ComprehensiveSR)
    assert read.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    (group,) = read.content.get_image_measurement_groups()
    values = {one.name.meaning: (one.value, one.unit.value) for one in group.get_measurements()}
    assert values["Model score, not calibrated"] == (0.5, "1")
    assert "Probability of cancer" not in values
    assert values["Fold models that say malignant"] == (2, "1")
    assert (
        values["Lowest score of the fold models"][0],
        values["Highest score of the fold models"][0],
    ) == (0.25, 0.75)
    assert values["SD of the scores"][0] == pytest.approx(np.std([0.25, 0.75], ddof=1), rel=1e-5)
    assert values["Score of fold model 1"] == (0.25, "1")
    assert values["Percentile of the embedding distance"] == (97.0, "%")
    said = {
        one.name.meaning: (one.value.scheme_designator, one.value.value)
        for one in group.get_qualitative_evaluations()
    }
    assert said["Majority decision of the fold models"] == ("SCT", "21594007")
    assert said["Likeness to the training cohort"] == ("99RENALRAY", "unusual")
    assert said["Whether the models had seen the patient"] == ("99RENALRAY", "new")
    benign = replace(prediction, vote=replace(prediction.vote, decision=0), placed=())
    read = hd.sr.srread(again(structured_report(benign, sources)))
    (group,) = read.content.get_image_measurement_groups()
    assert [one.value.value for one in group.get_qualitative_evaluations()] == [
        "30807003",
        "usual",
        "new",
    ]


@pytest.mark.parametrize(
    ("known", "code"), [("train", "seen-in-training"), ("test", "seen-in-test")]
)
def test_a_patient_whom_the_models_know_is_coded_so(
    prediction: Prediction, sources: Sources, known: str, code: str
) -> None:
    read = hd.sr.srread(again(structured_report(replace(prediction, known=known), sources)))
    (group,) = read.content.get_image_measurement_groups()
    assert [one.value.value for one in group.get_qualitative_evaluations()][-1] == code


def test_only_a_calibrated_score_is_called_a_probability(
    prediction: Prediction, sources: Sources
) -> None:
    study = prediction.chosen.run.study.model_copy(update={"calibrate": "platt"})
    calibrated = replace(
        prediction,
        chosen=replace(prediction.chosen, run=replace(prediction.chosen.run, study=study)),
    )
    (group,) = hd.sr.srread(
        again(structured_report(calibrated, sources))
    ).content.get_image_measurement_groups()
    values = {
        one.name.value: (one.name.scheme_designator, one.value, one.unit.value)
        for one in group.get_measurements()
    }
    assert values["111047"] == ("DCM", 50.0, "%")
    assert "score" not in values


def test_a_page_without_a_map_says_so(prediction: Prediction, sources: Sources) -> None:
    flat = replace(prediction, attention=np.full_like(prediction.attention, 0.3))
    assert not flat.has_map
    assert (
        "no attention map"
        in secondary_capture(flat, sources, np.zeros((8, 8, 3), np.uint8)).DerivationDescription
    )
    assert (
        "Grad-CAM"
        in secondary_capture(
            prediction, sources, np.zeros((8, 8, 3), np.uint8)
        ).DerivationDescription
    )


def run_client(*command: str) -> str:
    """What a Debian DICOM client prints; the test is skipped where the machine has none."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed: apt-get install dicom3tools dcmtk")
    done = subprocess.run(command, capture_output=True, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.fixture(scope="module")
def written(
    prediction: Prediction, sources: Sources, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The report, the capture, and a CT slice and the mask of the same phantom, as files."""
    folder = tmp_path_factory.mktemp("written")
    picture = sheet(prediction, tiles(prediction), DISCLAIMER)
    made = {
        "report": structured_report(prediction, sources),
        "capture": secondary_capture(prediction, sources, picture),
    }
    for name, dataset in made.items():
        dataset.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    case = prediction.seen.case
    return {name: folder / f"{name}.dcm" for name in made} | {
        "image": min(case.image.iterdir()),
        "mask": case.mask,
    }


@pytest.mark.parametrize("name", ["report", "capture", "image", "mask"])
def test_dciodvfy_finds_no_error(written: dict[str, Path], name: str) -> None:
    said = run_client("dciodvfy", str(written[name]))
    assert [line for line in said.splitlines() if line.startswith("Error")] == []


@pytest.mark.parametrize(
    ("body_part", "given", "side"),
    [
        ("KIDNEY", None, ""),
        ("KIDNEY", "L", "L"),
        ("Niere", None, ""),
        ("ABDOMEN", None, None),
        ("CHESTABDPELVIS", None, None),
        (None, None, ""),
    ],
)
def test_a_picture_has_a_side_or_an_empty_one_where_its_body_part_may_be_one_of_a_pair(
    body_part: str | None, given: str | None, side: str | None
) -> None:
    written, header = pydicom.Dataset(), pydicom.Dataset()
    written.Rows = 8
    with pydicom.config.disable_value_validation():
        for keyword, value in (("BodyPartExamined", body_part), ("Laterality", given)):
            if value is not None:
                setattr(header, keyword, value)
        describe_study(written, header)
    assert written.get("Laterality") == side
    assert written.get("BodyPartExamined") == body_part


def test_dcentvfy_finds_one_patient_and_study(written: dict[str, Path]) -> None:
    said = run_client("dcentvfy", *map(str, written.values()))
    assert [line for line in said.splitlines() if "Error" in line] == []


def test_dsrdump_reads_the_report(written: dict[str, Path]) -> None:
    said = run_client("dsrdump", str(written["report"]))
    assert "Imaging Measurement Report" in said
    assert "Model score, not calibrated" in said
    assert not [line for line in said.splitlines() if line.startswith(("E:", "F:"))]


def test_report_is_for_research_and_names_its_models(
    prediction: Prediction, sources: Sources
) -> None:
    report = pydicom.dcmread(again(structured_report(prediction, sources)))
    assert "NOT FOR CLINICAL USE" in report.SeriesDescription
    assert (report.VerificationFlag, report.PreliminaryFlag, report.CompletionFlag) == (
        "UNVERIFIED",
        "PRELIMINARY",
        "COMPLETE",
    )
    texts = [str(item.TextValue) for item in walk(report) if item.get("ValueType") == "TEXT"]
    assert DISCLAIMER in texts
    assert any("farther from their training patients than 97 %" in text for text in texts)
    for spec in prediction.chosen.voters:
        assert any(text.startswith(spec.trial_id) for text in texts)
    from renal_ray import __version__

    assert report.SoftwareVersions == __version__
    assert __version__ in texts
    kinds = [
        item.ConceptNameCodeSequence[0].CodeMeaning
        for item in report.ContentSequence
        if item.ValueType == "CONTAINER"
    ]
    assert kinds == ["Image Library", "Imaging Measurements"]  # in the order of the template


def test_an_image_of_the_study_is_no_new_patient(prediction: Prediction, sources: Sources) -> None:
    assert prediction.seen_before == ""
    assert prediction.to_json()["seen_before"] is None
    known = replace(prediction, known="train")
    report = pydicom.dcmread(again(structured_report(known, sources)))
    texts = [str(item.TextValue) for item in walk(report) if item.get("ValueType") == "TEXT"]
    assert any("that of a training patient of the study" in text for text in texts)
    assert (
        "that of a training patient of the study: the models were made with it"
        in known.to_json()["seen_before"]
    )
    sealed = replace(prediction, known="test").seen_before
    assert (
        "that of a sealed test patient of the study: it counts in the study's own test already"
        in sealed
    )
    assert "made with it" not in sealed


def walk(item: pydicom.Dataset):
    yield item
    for child in item.get("ContentSequence", []):
        yield from walk(child)


def test_both_refer_to_the_images_of_the_kept_slices(
    prediction: Prediction, sources: Sources
) -> None:
    expected = kept_uids(prediction)
    source = sources.images[0].header
    report = pydicom.dcmread(again(structured_report(prediction, sources)))
    capture = pydicom.dcmread(
        again(secondary_capture(prediction, sources, np.zeros((8, 8, 3), np.uint8)))
    )
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (
        source.StudyInstanceUID,
        source.SeriesInstanceUID,
    )
    assert sorted(one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence) == sorted(
        expected
    )
    named = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in walk(report)
        if item.get("ValueType") == "IMAGE"
    ]
    assert sorted(named) == sorted(
        2 * expected
    )  # once in the library, once as the source of the measurements
    assert [one.ReferencedSOPInstanceUID for one in capture.SourceImageSequence] == expected
    assert {one.ReferencedSOPClassUID for one in capture.SourceImageSequence} == {
        source.SOPClassUID
    }
    for made in (report, capture):
        for keyword in (
            "StudyInstanceUID",
            "PatientID",
            "PatientName",
            "PatientBirthDate",
            "PatientSex",
            "StudyDate",
            "StudyID",
            "AccessionNumber",
        ):
            assert str(made.get(keyword) or "") == str(source.get(keyword) or ""), keyword
        assert made.SeriesInstanceUID != source.SeriesInstanceUID
    assert report.SeriesInstanceUID != capture.SeriesInstanceUID
    assert structured_report(prediction, sources).SOPInstanceUID != report.SOPInstanceUID


def test_required_elements_are_there(prediction: Prediction, sources: Sources) -> None:
    assert require_standard(pydicom.dcmread(again(structured_report(prediction, sources)))) > 25
    assert (
        require_standard(
            pydicom.dcmread(
                again(secondary_capture(prediction, sources, np.zeros((8, 8, 3), np.uint8)))
            )
        )
        > 25
    )


def test_capture_shows_the_sheet(prediction: Prediction, sources: Sources) -> None:
    picture = sheet(prediction, tiles(prediction), DISCLAIMER)
    capture = pydicom.dcmread(again(secondary_capture(prediction, sources, picture)))
    assert np.array_equal(capture.pixel_array, picture)
    assert (capture.Modality, capture.ConversionType, capture.BurnedInAnnotation) == (
        "OT",
        "WSD",
        "NO",
    )
    assert "Not for clinical use" in capture.ImageComments
    assert np.ptp(picture) > 200


def test_frames_of_an_enhanced_image_are_named(finished: SmallWork, tmp_path: Path) -> None:
    from renal_ray.cohort.phantom import write_phantom

    manifest = write_phantom(
        tmp_path / "enhanced", patients=1, seed=3, matrix=128, slice_mm=10.0, image="enhanced"
    )
    made = prediction_of(case_of(manifest), finished)
    found = sources_of(made)
    report = pydicom.dcmread(again(structured_report(made, found)))
    frames = [
        item.ReferencedSOPSequence[0].ReferencedFrameNumber
        for item in walk(report)
        if item.get("ValueType") == "IMAGE"
    ]
    path = (
        next(iter(made.seen.case.image.rglob("*.dcm")))
        if made.seen.case.image.is_dir()
        else made.seen.case.image
    )
    heights = [
        float(one.PlanePositionSequence[0].ImagePositionPatient[2])
        for one in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    ]
    order = np.argsort(heights)[::-1]
    wanted = [int(order[k]) + 1 for k in made.seen.slices.slice_index]
    assert sorted(np.atleast_1d(frames[0]).tolist()) == sorted(wanted)
    assert require_standard(report) > 25


@pytest.mark.parametrize(
    ("name", "charset", "sex", "born"),
    [
        ("Müller^Jürgen", "ISO_IR 100", "M", "19500101"),
        ("山田^太郎", "ISO_IR 192", "X", "about 1950"),
        ("", None, "", ""),
    ],
)
def test_who_the_patient_is_comes_over(
    prediction: Prediction, sources: Sources, name: str, charset: str | None, sex: str, born: str
) -> None:
    with pydicom.config.disable_value_validation():
        header = pydicom.Dataset()
        if charset:
            header.SpecificCharacterSet = charset
        header.PatientName, header.PatientSex, header.PatientBirthDate = name, sex, born
        for keyword in (
            "PatientID",
            "AccessionNumber",
            "StudyID",
            "StudyDate",
            "StudyTime",
            "ReferringPhysicianName",
        ):
            setattr(header, keyword, "")
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            setattr(header, keyword, generate_uid())
        header.SOPClassUID = sources.images[0].header.SOPClassUID
        header.is_little_endian, header.is_implicit_VR = True, False
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, header, little_endian=True, implicit_vr=False)
        buffer.seek(0)
        read = pydicom.dcmread(buffer, force=True)
    found = Sources((replace(sources.images[0], header=read),))
    for made in (
        structured_report(prediction, found),
        secondary_capture(prediction, found, np.zeros((8, 8, 3), np.uint8)),
    ):
        back = pydicom.dcmread(again(made))
        assert str(back.PatientName) == name
        assert back.PatientSex == (sex if sex == "M" else "")
        assert back.PatientBirthDate == (born if born.isdigit() else "")
        assert require_standard(back) > 25


def test_why_nothing_can_be_referred_to(
    finished: SmallWork, prediction: Prediction, tmp_path: Path
) -> None:
    case = prediction.seen.case
    for number, (keyword, value, words) in enumerate(
        (
            ("StudyInstanceUID", "", "have no StudyInstanceUID"),
            ("SOPInstanceUID", "1.2.3", "share one SOPInstanceUID"),
            ("StudyInstanceUID", None, "several studies"),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        for path in case.image.iterdir():
            dataset = pydicom.dcmread(path)
            setattr(dataset, keyword, generate_uid() if value is None else value)
            dataset.save_as(folder / path.name)
        found = read_sources(
            replace(case, image=folder), prediction.seen.slices.slice_index, finished.study.cohort
        )
        assert found.images == ()
        assert words in found.why_none
