"""All trials at once: the same as each of them asked for alone."""

from pathlib import Path

import pytest

from renal_ray.store.ledger import FILES, Ledger
from renal_ray.store.place import READERS, TEMPORARY, Place
from renal_ray.trial.plan import finished_results


def finish(ledger: Ledger, trial_id: str) -> Place:
    folder = ledger.begin(trial_id, {"trial_id": trial_id})
    for name in FILES[1:]:
        folder.write(name, b"x")
    ledger.finish(trial_id, {"trial_id": trial_id, "levels": {}})
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Place:
    """A trial of every state that there is."""
    work = Place(str(tmp_path))
    ledger = Ledger(work)
    for trial_id in ("whole", "also-whole"):
        finish(ledger, trial_id)
    for name in FILES:
        finish(ledger, f"without-{name.partition('.')[0]}").remove(name)
    finish(ledger, "cut").write("result.json", b'{"trial_id"')
    finish(ledger, "altered").write(
        "result.json", Ledger(work).folder("whole").read("result.json").replace(b"whole", b"other")
    )
    finish(ledger, "no-mapping").write("result.json", b"[]")
    finish(ledger, "withdrawn").write("weights.h5", b"spoilt")
    with pytest.raises(Exception, match="damaged"):
        ledger.read_checked("withdrawn", "weights.h5")
    ledger.begin("begun", {}).write("checkpoint/deep/file", b"x")
    ledger.begin("failed", {})
    ledger.fail("failed", "ValueError\n")
    work.at("trials").write("empty/stray", b"x")
    work.path(f"trials/unborn/{TEMPORARY}spec.json").parent.mkdir()
    work.path(f"trials/unborn/{TEMPORARY}spec.json").write_bytes(b"x")
    return work


def test_a_survey_says_what_each_trial_says_alone(work: Place) -> None:
    ledger = Ledger(work)
    survey = ledger.survey()
    assert survey.results.keys() == {"whole", "also-whole"}
    assert survey.results == finished_results(work)
    for trial_id in ledger.trial_ids():
        assert survey.results.get(trial_id) == ledger.result(trial_id), trial_id
        state = "finished" if trial_id in survey.results else survey.others.get(trial_id, "absent")
        assert state == ledger.state(trial_id), trial_id
    assert survey.others["withdrawn"] == survey.others["cut"] == "damaged"
    assert set(survey.others.values()) == {"damaged", "unfinished", "failed", "absent"}


def test_a_survey_of_nothing_is_empty(tmp_path: Path) -> None:
    survey = Ledger(Place(str(tmp_path))).survey()
    assert not survey.results
    assert not survey.others


def test_a_trial_that_goes_while_it_is_read_is_not_finished(
    work: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = Place.entries

    def then_gone(place: Place, name: str = "", **options: bool) -> list[str]:
        found = entries(place, name, **options)
        place.remove("whole/result.json")
        return found

    monkeypatch.setattr(Place, "entries", then_gone)
    assert Ledger(work).survey().results.keys() == {"also-whole"}


def test_many_files_are_read_in_their_order(tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    names = [f"file-{number}" for number in range(3 * READERS)]
    for name in names:
        work.write(name, name.encode())
    assert list(work.read_all([*names, "absent", names[0]])) == [
        *(name.encode() for name in names),
        None,
        names[0].encode(),
    ]
