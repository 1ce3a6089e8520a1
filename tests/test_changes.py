"""Every command against every kind of change of a finished study: of its sources, of its settings,
of where it lies, and of a file of it."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from renal_ray.cli import app
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.place import Place
from renal_ray.store.seal import openings, read_log
from renal_ray.trial.plan import finished_results
from renal_ray.trial.prepared import read_splits

pytestmark = pytest.mark.usefixtures("local_ray")

BEFORE_SEAL = ("test", "report", "explain")
CHANGED = "the cohort changed since prepare"


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def hashes(folder: Path) -> dict[str, str]:
    """Every file of a directory with its content and the time it was written."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(
            path.relative_to(folder)
        ): f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}"
        for path in files
    }


@dataclass(frozen=True)
class Bed:
    """A finished study with sources of its own, which may be changed.

    Args:
        work: the work directory.
        manifest: its manifest.
    """

    work: Path
    manifest: Path

    @property
    def place(self) -> Place:
        return Place(str(self.work))

    @property
    def splits(self) -> SplitSet:
        return read_splits(self.place)

    @property
    def of_training(self) -> str:
        return self.splits.training[0]

    @property
    def of_test(self) -> str:
        return sorted(self.splits.test)[0]

    def edit(self, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        """Changes the manifest."""
        change(pd.read_csv(self.manifest, dtype=str, keep_default_na=False)).to_csv(
            self.manifest, index=False
        )

    def relabel(self, patient: str) -> None:
        def change(table: pd.DataFrame) -> pd.DataFrame:
            row = table["patient_id"] == patient
            table.loc[row, "label"] = str(1 - self.splits.labels[patient])
            return table

        self.edit(change)

    def withdraw(self, patient: str) -> None:
        self.edit(lambda table: table[table["patient_id"] != patient])

    def file(self, patient: str, column: str) -> Path:
        table = pd.read_csv(self.manifest, dtype=str).set_index("patient_id")
        return self.manifest.parent / str(table.loc[patient, column])

    def says(self, command: str) -> str:
        """What a command prints that succeeds."""
        done = invoke(command, self.work)
        assert done.exit_code == 0, done.output
        return done.output

    def refuses(self, command: str) -> str:
        """What a command prints that is not done."""
        done = invoke(command, self.work)
        assert done.exit_code == 2, done.output
        return done.output


@pytest.fixture
def opened(whole_study: Path, phantom_manifest: Path, tmp_path: Path) -> Bed:
    """The study after the seal was opened, as if it had been done on a copy of the cohort."""
    return bed_of(whole_study, phantom_manifest, tmp_path)


@pytest.fixture
def closed(whole_study: Path, phantom_manifest: Path, tmp_path: Path) -> Bed:
    """The study before the seal was opened."""
    return bed_of(whole_study, phantom_manifest, tmp_path, *BEFORE_SEAL)


def bed_of(work: Path, manifest: Path, folder: Path, *without: str) -> Bed:
    shutil.copytree(work, folder / "work", ignore=shutil.ignore_patterns(*without, ".lock*"))
    shutil.copytree(manifest.parent, folder / "cohort")
    for name in ("study.yaml", "slices/prepared.json"):
        file = folder / "work" / name
        file.write_text(
            file.read_text(encoding="utf-8").replace(str(manifest.parent), str(folder / "cohort")),
            encoding="utf-8",
        )
    return Bed(folder / "work", folder / "cohort" / manifest.name)


def add(bed: Bed) -> str:
    """Somebody who is in no image of the others: the last patient again, mirrored front to back by
    way of HU that differ."""
    source = bed.splits.patients[-1].patient_id
    new = "phantom-0099"
    image, mask = bed.file(source, "image"), bed.file(source, "mask")
    shutil.copytree(image, bed.manifest.parent / new / "ct")
    shutil.copy2(mask, bed.manifest.parent / new / "seg.dcm")
    shift_hu(bed.manifest.parent / new / "ct")

    def change(table: pd.DataFrame) -> pd.DataFrame:
        row = table[table["patient_id"] == source].assign(
            patient_id=new, image=f"{new}/ct", mask=f"{new}/seg.dcm"
        )
        return pd.concat([table, row])

    bed.edit(change)
    return new


def shift_hu(folder: Path) -> None:
    """One HU more in every image of a folder."""
    import pydicom

    for file in sorted(folder.glob("*.dcm")):
        data = pydicom.dcmread(file)
        data.RescaleIntercept = float(data.RescaleIntercept) + 1
        data.save_as(file)


def exchange_mask(bed: Bed, patient: str) -> None:
    """A mask with one byte more in a private element: another file, whatever it shows."""
    import pydicom

    file = bed.file(patient, "mask")
    data = pydicom.dcmread(file)
    data.private_block(0x0041, "TEST", create=True).add_new(1, "LO", "other")
    data.save_as(file)


def new_age(bed: Bed) -> None:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[table["patient_id"] == bed.of_training, "age"] = "99"
        return table

    bed.edit(change)


# what changes, how it is counted, and which trials it costs
SOURCES: dict[str, tuple[Callable[[Bed], object], str, str]] = {
    "label of a training patient": (
        lambda bed: bed.relabel(bed.of_training),
        "1 label, 0 added, 0 removed",
        "6 of 6 trials will be trained anew",
    ),
    "label of a test patient": (
        lambda bed: bed.relabel(bed.of_test),
        "1 label, 0 added, 0 removed",
        "no trial is trained anew, the votes are counted anew",
    ),
    "training patient withdrawn": (
        lambda bed: bed.withdraw(bed.of_training),
        "0 labels, 0 added, 1 removed",
        "6 of 6 trials will be trained anew",
    ),
    "test patient withdrawn": (
        lambda bed: bed.withdraw(bed.of_test),
        "0 labels, 0 added, 1 removed",
        "no trial is trained anew, the votes",
    ),
    "patient added": (
        add,
        "0 labels, 1 added, 0 removed: phantom-0099",
        "up to 6 of 6 trials will be trained anew",
    ),
    "mask replaced": (
        lambda bed: exchange_mask(bed, bed.of_training),
        "0 labels, 0 added, 0 removed, 1 mask",
        "up to 6 of 6 trials will be trained anew",
    ),
    "image replaced": (
        lambda bed: shift_hu(bed.file(bed.of_training, "image")),
        "0 removed, 1 image",
        "up to 6 of 6 trials will be trained anew",
    ),
    "mask of a patient gone": (
        lambda bed: bed.file(bed.of_training, "mask").unlink(),
        "0 added, 1 removed",
        "6 of 6 trials will be trained anew",
    ),
    "a row twice": (
        lambda bed: bed.edit(lambda table: pd.concat([table, table[:1]])),
        "its table is another one and cannot be used as it is now",
        "`renal-ray prepare` says why",
    ),
    "another age": (new_age, "1 with another entry of the table", "no trial is trained anew"),
}


@pytest.mark.parametrize("what", SOURCES)
def test_changed_sources_are_said_by_every_command_and_nothing_trains_on(
    closed: Bed, what: str
) -> None:
    change, counted, cost = SOURCES[what]
    for command in ("plan", "status", "sweep"):
        assert CHANGED not in closed.says(command)
    change(closed)
    before = hashes(closed.work)
    for command in ("plan", "status"):
        said = closed.says(command)
        assert f"WARNING: {CHANGED}: " in said
        assert counted in said
        assert cost in said
    for command in ("sweep", "test"):
        assert f"renal-ray: {CHANGED}: " in closed.refuses(command)
    after = hashes(closed.work)
    assert {name for name in before if before[name] != after.get(name)} <= {".lock", ".lock-guard"}


SEARCHED = "search={head: image, space: {learning_rate: {low: 0.001, high: 0.1, log: true}}}"

# The commands that cost more than a look: words after the work directory, a change, and how they
# end.
USES: dict[str, tuple[tuple[str, ...], str, int]] = {
    "explain": ((), "label of a test patient", 0),
    "predict": (("PATIENT", "-o", "OUT"), "training patient withdrawn", 0),
    "export": (
        ("-o", "FULL"),
        "patient added",
        2,
    ),  # into a folder that is not empty: what comes later is not waited for
    "test": (("--cohort", "NOBODY"), "image replaced", 2),
    "search": (("--set", SEARCHED), "mask replaced", 2),
}


@pytest.mark.parametrize("command", USES)
def test_whoever_uses_models_of_a_changed_cohort_is_told(
    opened: Bed, tmp_path: Path, command: str
) -> None:
    words, change, code = USES[command]
    patient = opened.file(opened.of_test, "image").parent
    nobody = tmp_path / "nobody.csv"
    nobody.write_text("patient_id,image,mask,label\nX1,nowhere,nowhere,1\n", encoding="utf-8")
    stands = {
        "PATIENT": patient,
        "OUT": tmp_path / "out",
        "FULL": opened.manifest.parent,
        "NOBODY": nobody,
    }
    SOURCES[change][0](opened)
    done = invoke(command, opened.work, *(stands.get(word, word) for word in words))
    assert done.exit_code == code, done.output
    assert f"{'renal-ray' if command == 'search' else 'WARNING'}: {CHANGED}: " in done.output
    assert SOURCES[change][1] in done.output


def test_what_is_touched_or_written_again_is_no_change(closed: Bed) -> None:
    closed.file(closed.of_training, "mask").touch()
    for file in closed.file(closed.of_test, "image").glob("*.dcm"):
        file.write_bytes(file.read_bytes())
    closed.edit(lambda table: table)
    for command in ("plan", "status", "sweep"):
        assert CHANGED not in closed.says(command)


def test_sources_that_are_not_at_hand_are_a_note(closed: Bed) -> None:
    closed.manifest.parent.rename(closed.manifest.parent.with_name("elsewhere"))
    for command in ("plan", "status", "sweep"):
        said = closed.says(command)
        assert CHANGED not in said
        assert "note: the cohort's table and images are not at hand here" in said


def test_a_work_directory_of_a_version_without_stamps_is_believed_until_it_is_prepared_again(
    closed: Bed,
) -> None:
    marker = closed.place.read_json("slices/prepared.json")
    del marker["cohort"]
    closed.place.write_json("slices/prepared.json", marker)
    for name in closed.place.entries("slices/shards"):
        part = closed.place.read_checked_json(f"slices/shards/{name}")
        del part["stamps"]
        closed.place.write_checked_json(f"slices/shards/{name}", part)
    split, trials = closed.place.read("splits.json"), set(finished_results(closed.place))
    exchange_mask(closed, closed.of_training)
    assert CHANGED not in closed.says("status")
    assert "6 of 6 trials are finished" in closed.says("sweep")
    assert "0 of 6 finished trials are to be trained anew" in closed.says("prepare")
    assert closed.place.read("splits.json") == split
    assert set(finished_results(closed.place)) == trials
    closed.relabel(closed.of_training)
    assert CHANGED in closed.says("status")


def test_the_hash_in_study_yaml_is_that_of_the_prepared_cohort(closed: Bed) -> None:
    def kept() -> dict:
        found = yaml.safe_load((closed.work / "study.yaml").read_text(encoding="utf-8"))[
            "provenance"
        ]
        return {name: found[name] for name in ("hashes", "prepared")}

    before = kept()
    assert before["hashes"]["cohort"] == hashlib.sha256(closed.manifest.read_bytes()).hexdigest()
    closed.relabel(closed.of_test)
    closed.refuses("sweep")
    assert kept() == before
    closed.says("prepare")
    assert kept()["hashes"]["cohort"] == hashlib.sha256(closed.manifest.read_bytes()).hexdigest()
    assert kept()["prepared"] >= before["prepared"]


def test_prepared_again_while_the_seal_is_closed_nobody_changes_side(closed: Bed) -> None:
    """One after the other: a test patient corrected, one added, a training patient corrected."""
    before, trials = closed.splits, set(finished_results(closed.place))
    closed.relabel(closed.of_test)
    said = closed.says("prepare")
    assert (
        "1 relabelled, 0 added, 0 withdrawn, 0 with other pixels; 0 of those who stay change side"
        in said
    )
    assert "0 of 6 finished trials are to be trained anew" in said
    assert "6 of 6 trials are finished" in closed.says("sweep")  # none was trained
    assert set(finished_results(closed.place)) == trials
    add(closed)
    closed.relabel(closed.of_training)
    said = closed.says("prepare")
    assert "1 relabelled, 1 added, 0 withdrawn" in said
    assert "0 of those who stay change side" in said
    assert "6 of 6 finished trials are to be trained anew" in said
    after = {one.patient_id: (one.role, one.fold) for one in closed.splits.patients}
    assert {one.patient_id: after[one.patient_id] for one in before.patients} == {
        one.patient_id: (one.role, one.fold) for one in before.patients
    }
    assert "6 trials" in closed.says("plan")


def test_one_image_under_two_ids(closed: Bed) -> None:
    """With one label both stay, on the side where the first one is; with two labels both are left
    out."""
    twin = closed.of_training

    def copied(table: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([table, table[table["patient_id"] == twin].assign(patient_id="copy")])

    closed.edit(copied)
    said = closed.says("prepare")
    assert "warning, same-pixels: 2 patients kept" in said
    assert "0 of those who stay change side" in said
    roles = {one.patient_id: (one.role, one.fold, one.twins) for one in closed.splits.patients}
    assert roles["copy"] == roles[twin]
    assert roles[twin][2] == "copy"
    closed.edit(
        lambda table: table.assign(
            label=table["label"].where(
                table["patient_id"] != "copy", str(1 - closed.splits.labels["copy"])
            )
        )
    )
    assert "label-conflict: 2" in closed.says("prepare")
    assert not {"copy", twin} & closed.splits.labels.keys()
    assert not {"copy", twin} & set(
        closed.place.read_parquet("slices/roi/index.parquet")["patient_id"]
    )
    found = pd.read_csv(closed.work / "quarantine.csv").set_index("patient_id")
    assert "the same image as copy, who has the other label" in found.loc[twin, "message"]
    assert set(found["severity"]) == {"error"}


def test_a_test_patient_who_withdraws_after_the_seal_was_opened(opened: Bed) -> None:
    gone, trials = opened.of_test, set(finished_results(opened.place))
    opened.withdraw(gone)
    opened.refuses("test")
    assert "0 of 6 finished trials are to be trained anew" in opened.says("prepare")
    assert [line["test"]["withdrawn"] for line in read_log(opened.place) if "changed" in line] == [
        1
    ]
    assert "the votes of the same 6 models are counted anew on the 3 there are" in opened.says(
        "test"
    )
    assert "the seal stays closed" in opened.says("test")
    assert len(openings(opened.place)) == 1
    for name in (
        "cohort.parquet",
        "test/votes.parquet",
        "test/predictions.parquet",
        "slices/roi/index.parquet",
    ):
        table = opened.place.read_parquet(name)
        assert len(table)
        assert gone not in set(table["patient_id"])
    assert set(finished_results(opened.place)) == trials
    assert CHANGED not in opened.says("status")


def test_after_the_seal_was_opened_nobody_joins_and_a_training_patient_may_leave(
    opened: Bed,
) -> None:
    opened.withdraw(opened.of_training)
    said = opened.says("prepare")
    assert "0 of those who stay change side" in said
    assert "6 of 6 finished trials are to be trained anew" in said
    assert [
        line["training"]["withdrawn"] for line in read_log(opened.place) if "changed" in line
    ] == [1]
    assert "the seal on the test patients was opened, 1 x" in opened.says("status")
    split = opened.place.read("splits.json")
    add(opened)
    assert "refused for those added: the seal was opened" in opened.says("status")
    assert "whoever joins now joins with the test result in view" in opened.refuses("prepare")
    assert opened.place.read("splits.json") == split


def test_after_the_seal_was_opened_nobody_leaves_by_a_disk_that_is_away(opened: Bed) -> None:
    """Who is withdrawn never comes back: so a file that cannot be read now is no withdrawal."""
    mask, split = opened.file(opened.of_test, "mask"), opened.place.read("splits.json")
    mask.rename(mask.with_suffix(".away"))
    said = opened.refuses("prepare")
    assert f"1 patient of the split cannot be read ({opened.of_test}: file-missing)" in said
    assert opened.place.read("splits.json") == split
    mask.with_suffix(".away").rename(mask)
    assert "0 of 6 finished trials are to be trained anew" in opened.says("prepare")


def test_the_report_says_on_its_first_screen_that_the_sources_changed(opened: Bed) -> None:
    quick = ("--set", "statistics.bootstrap=200")
    opened.relabel(opened.of_training)
    done = invoke("report", opened.work, *quick)
    assert done.exit_code == 0, done.output
    page = (opened.work / "report" / "index.html").read_text(encoding="utf-8")
    first = page[: page.index('<section id="cohort">')]
    for text in (done.output, first):
        assert "Made from the cohort as prepared on " in text
        assert "the sources have changed since" in text
        assert "6 of 6 trials will be trained anew" in text
    shutil.copytree(opened.work, opened.work.with_name("other"))
    done = invoke(
        "compare",
        opened.work,
        opened.work.with_name("other"),
        "-o",
        opened.work.with_name("compare.html"),
    )
    assert done.output.count(f"small: {CHANGED}: 1 label") == 2


@pytest.mark.parametrize("how", ["copied", "moved", "renamed", "linked"])
def test_where_a_work_directory_lies_decides_nothing(opened: Bed, tmp_path: Path, how: str) -> None:
    """All that writes, writes into the directory that was given; the original of a copy stays as it
    is to the byte."""
    there = tmp_path / "other" / ("work" if how == "moved" else "else")
    there.parent.mkdir()
    if how == "copied":
        shutil.copytree(opened.work, there)
    elif how == "linked":
        there.symlink_to(opened.work)
    else:
        opened.work.rename(there)
    there_are = Bed(there, opened.manifest)
    original = hashes(opened.work) if how == "copied" else {}
    patient = there_are.file(there_are.of_training, "image").parent
    out = tmp_path / "out"
    commands: list[tuple[object, ...]] = [
        ("prepare", there),
        ("plan", there),
        ("sweep", there),
        ("status", there),
        ("test", there),
        ("explain", there),
        ("report", there, "--set", "statistics.bootstrap=200"),
        (
            "inspect",
            there,
            "--patients",
            there_are.of_training,
            "-o",
            out / "inspect.html",
            "--workers",
            1,
        ),
        ("predict", there, patient, "-o", out / "predicted"),
        ("export", there, "-o", out / "exported"),
    ]
    for command in commands if how == "copied" else commands[:5]:
        done = invoke(*command)
        assert done.exit_code == 0, (command, done.output)
        assert CHANGED not in done.output
    assert "6 of 6 trials are finished" in invoke("sweep", there).output
    if how == "copied":
        assert invoke("compare", there, opened.work, "-o", out / "compare.html").exit_code == 0
        assert hashes(opened.work) == original
    else:
        assert opened.work.exists() is (how == "linked")


def damage(bed: Bed, name: str) -> Path:
    file = sorted((bed.work / "trials").glob(f"*image*/{name}"))[0]
    file.write_bytes(file.read_bytes()[:-7] + b"changed")
    return file


def other_version(bed: Bed) -> None:
    """A trial of another version of the program: another specification, and so another name."""
    folder = sorted((bed.work / "trials").glob("*image*"))[0]
    folder.rename(folder.with_name(folder.name[:-8] + "00000000"))


FILES: dict[str, tuple[Callable[[Bed], object], str, str]] = {
    "result edited": (
        lambda bed: damage(bed, "result.json"),
        "1 of 6 trials finished",
        "image trials of roi are missing",
    ),
    "weights edited": (lambda bed: damage(bed, "weights.h5"), "", "weights.h5"),
    "trial deleted": (
        lambda bed: shutil.rmtree(sorted((bed.work / "trials").glob("*image*"))[0]),
        "trials finished",
        "are missing",
    ),
    "trial of another version": (other_version, "trials finished", "are missing"),
    "split edited": (
        lambda bed: bed.place.write_json(
            "splits.json", {**bed.place.read_json("splits.json"), "seed": 1}
        ),
        "",
        "prepare",
    ),
    "split deleted": (lambda bed: (bed.work / "splits.json").unlink(), "", "prepare"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_was_edited_or_deleted_is_never_voted_with(closed: Bed, what: str) -> None:
    change, status, refusal = FILES[what]
    change(closed)
    done = invoke("status", closed.work)
    assert done.exit_code == (2 if what.startswith("split") else 0), done.output
    assert status in done.output
    assert (
        "6 of 6 trials finished" not in done.output or what == "weights edited"
    )  # whose checksum is held against them when they are read
    assert refusal in closed.refuses("test")
    assert openings(closed.place) == []


SETTINGS = {
    "learning rate": ("training.learning_rate=0.02", "sweep", "0 of"),
    "selection": ("selection.max_slices=2", "plan", "was prepared with another selection"),
    "seed": ("seed=18", "plan", "was prepared with another seed"),
    "folds": ("folds.n=3", "plan", "was prepared with another folds"),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_other_settings_never_mix_with_finished_trials(closed: Bed, what: str) -> None:
    change, command, said = SETTINGS[what]
    before = hashes(closed.work / "trials")
    done = invoke("status" if command == "sweep" else command, closed.work, "--set", change)
    assert said in done.output
    assert done.exit_code == (0 if command == "sweep" else 2)
    assert hashes(closed.work / "trials") == before
