"""Searches played through: who is asked for, who is given up, what is resumed, and that no outer
fold is looked at."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from searches import best_at, hunt_of, plan_of, play, study_with, told

from renal_ray.config import Search
from renal_ray.problems import DamagedFileError, StudyError
from renal_ray.protocol.racing import verdict
from renal_ray.store.place import Place
from renal_ray.study_file import load_study
from renal_ray.trial.feed import Feed, LeakError, Picked, Samples
from renal_ray.trial.plan import make_plan
from renal_ray.trial.search.configurations import configured, make_bench, own_values
from renal_ray.trial.search.outcome import (
    BEST,
    best_study,
    describe_search,
    keep_outcome,
    read_outcome,
    search_status,
)
from renal_ray.trial.search.race import Entry
from renal_ray.trial.search.sampler import Past, ask
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Head

RATES = {"learning_rate": {"low": 1e-4, "high": 1.0, "log": True}}


def values_of(hunt: Any) -> list[dict[str, Any]]:
    return [dict(entry.values) for entry in hunt.main.entries]


def test_own_settings_come_first_and_are_those_of_the_study_s_own_trials(tmp_path: Path) -> None:
    study = study_with(
        tmp_path,
        {
            "space": RATES
            | {"freeze_point": ["mixed9", "mixed10"], "augmentation": {"flip": [False, True]}},
            "configurations": 4,
        },
    )
    hunt = hunt_of(study)
    assert own_values(study) == {
        "learning_rate": 0.01,
        "freeze_point": "mixed10",
        "augmentation.flip": False,
    }
    ended = play(hunt, best_at(0.1), {})
    own = [
        spec.trial_id
        for spec in make_plan(study, Place(study.work)).specs({})
        if spec.head is Head.IMAGE
    ]
    assert [spec.trial_id for spec in ended[:3]] == own
    assert {spec.freeze_point for spec in ended} <= {"mixed9", "mixed10"}


def test_a_configuration_is_the_study_with_other_settings(tmp_path: Path) -> None:
    study = study_with(
        tmp_path,
        {"space": RATES | {"augmentation": {"flip": [True]}}},
        training={"augmentation": {"rotate_deg": 5.0}, "batch_size": 8},
    )
    changed = configured(
        study, {"learning_rate": 0.5, "augmentation.flip": True, "freeze_point": "mixed9"}
    )
    assert changed.training.learning_rate == 0.5
    assert (changed.training.augmentation.flip, changed.training.augmentation.rotate_deg) == (
        True,
        5.0,
    )
    assert changed.freeze_points == ["mixed9"]
    assert changed.training.batch_size == 8


@pytest.mark.parametrize("workers", [1, 3])
def test_the_best_is_found_and_the_others_are_given_up_as_the_rule_says(
    tmp_path: Path, workers: int
) -> None:
    study = study_with(tmp_path, {"space": RATES, "configurations": 12, "startup": 5})
    hunt, results = hunt_of(study), {}
    ended = play(hunt, best_at(0.2), results, workers=workers)
    race = hunt.main
    assert len(race.entries) == 12
    assert len({json.dumps(values) for values in values_of(hunt)}) == 12
    best = race.best(results)
    assert best is not None
    means = {entry.number: race.mean(entry, results) for entry in race.entries}
    assert best.number == max(
        (number for number in means if means[number] is not None), key=lambda number: means[number]
    )
    assert abs(np.log10(best.values["learning_rate"]) - np.log10(0.2)) < 0.5
    given_up = [entry for entry in race.entries if entry.end is not None]
    assert given_up
    assert len(ended) < 36  # and that saved trials
    for entry in given_up:
        assert entry.end is not None
        against = race.scores(race.entries[entry.end.against or 0], results)
        mine = {
            fold: auc for fold, auc in race.scores(entry, results).items() if fold < entry.end.folds
        }
        found = verdict(mine, against, min_folds=2, alpha=0.1)
        assert found is not None
        assert (found.reason, found.difference, found.p) == (
            entry.end.reason,
            entry.end.difference,
            entry.end.p,
        )
    assert all(race.state(entry, results, ()) != "running" for entry in race.entries)


def test_without_stopping_every_fold_is_trained(tmp_path: Path) -> None:
    hunt, results = (
        hunt_of(study_with(tmp_path, {"space": RATES, "configurations": 5, "stop": None})),
        {},
    )
    assert len(play(hunt, best_at(0.2), results)) == 15
    assert all(hunt.main.state(entry, results, ()) == "complete" for entry in hunt.main.entries)


def test_a_fold_at_a_time_while_there_is_other_work(tmp_path: Path) -> None:
    """One worker: a configuration is compared after each fold, and the next one is asked for when
    it is settled."""
    hunt, results = hunt_of(study_with(tmp_path, {"space": RATES, "configurations": 6})), {}
    order = [spec.training.learning_rate for spec in play(hunt, best_at(0.2), results)]
    assert len([rate for rate, _ in itertools.groupby(order)]) == 6


def test_workers_side_by_side_take_different_configurations(tmp_path: Path) -> None:
    hunt, busy, order = (
        hunt_of(study_with(tmp_path, {"space": RATES, "configurations": 6})),
        set[str](),
        list[float](),
    )
    for _ in range(8):
        spec = hunt.next({}, (), busy)
        assert spec is not None
        busy.add(spec.trial_id)
        order.append(spec.training.learning_rate)
    assert (
        order[:3] == [0.01] * 3
    )  # the study file's own settings, which all others are compared with, on all folds at once
    assert len(set(order[3:])) == 5


def test_workers_without_other_work_take_further_folds(tmp_path: Path) -> None:
    hunt = hunt_of(study_with(tmp_path, {"space": RATES, "configurations": 2, "stop": None}))
    named: set[str] = set()
    while (spec := hunt.next({}, (), named)) is not None:
        named.add(spec.trial_id)
    assert len(named) == 6


def test_a_grid_covers_every_combination_once(tmp_path: Path) -> None:
    space = {
        "learning_rate": [0.001, 0.01, 0.1],
        "optimizer": ["sgd", "adam"],
        "augmentation": {"flip": [False, True]},
    }
    study = study_with(tmp_path, {"space": space, "sampler": "grid", "stop": None})
    hunt, results = hunt_of(study), {}
    ended = play(hunt, best_at(0.1), results, workers=2)
    found = {
        (
            spec.training.learning_rate,
            spec.training.optimizer,
            spec.training.augmentation.flip,
            spec.fold,
        )
        for spec in ended
    }
    assert found == set(
        itertools.product([0.001, 0.01, 0.1], ["sgd", "adam"], [False, True], range(3))
    )
    assert len(ended) == 36  # the study file's own combination is one of them, and trained once
    assert any(
        f"a grid of {len(hunt.main.entries)} configurations" in line
        for line in describe_search(study)
    )


def test_a_space_smaller_than_the_search_ends_it(tmp_path: Path) -> None:
    hunt, results = (
        hunt_of(
            study_with(
                tmp_path,
                {"space": {"dropout": [0.0, 0.2, 0.4]}, "configurations": 50, "stop": None},
            )
        ),
        {},
    )
    play(hunt, best_at(0.1), results)
    assert sorted(values["dropout"] for values in values_of(hunt)) == [0.0, 0.2, 0.4]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_results_in_the_same_order_give_the_same_questions(sampler: str) -> None:
    search = Search.model_validate(
        {
            "space": RATES
            | {"batch_size": {"low": 4, "high": 64, "log": True}, "optimizer": ["sgd", "adam"]},
            "sampler": sampler,
            "startup": 3,
        }
    )
    past: list[Past] = []
    for number in range(10):
        one, two = (ask(search, past, seed=["7", "all"]) for _ in range(2))
        assert one is not None
        assert one == two
        assert ask(search, past, seed=["8", "all"]) != one
        assert isinstance(one["batch_size"], int)
        assert 1e-4 <= one["learning_rate"] <= 1
        past.append(
            Past(one, "complete", float(one["learning_rate"]))
            if number % 3
            else Past(one, "given-up", 0.1, 1)
        )
    other = [*past[:-1], Past(past[-1].values, "complete", 5.0)]
    assert (ask(search, past, seed=["7", "all"]) != ask(search, other, seed=["7", "all"])) == (
        sampler == "tpe"
    )


def test_tpe_learns_where_random_does_not() -> None:
    drawn = {}
    for sampler in ("tpe", "random"):
        search, past = (
            Search.model_validate({"space": RATES, "sampler": sampler, "startup": 6}),
            list[Past](),
        )
        for _ in range(40):
            values = ask(search, past, seed=["1"])
            assert values is not None
            past.append(Past(values, "complete", -abs(np.log10(values["learning_rate"]) + 2.0)))
        drawn[sampler] = np.mean([-one.value for one in past[-20:] if one.value is not None])
    assert drawn["tpe"] < 0.75 * drawn["random"]


def test_own_settings_outside_the_space_are_no_obstacle() -> None:
    search = Search.model_validate(
        {"space": {"learning_rate": {"low": 0.1, "high": 1.0}, "optimizer": ["adam"]}}
    )
    assert (
        ask(
            search, [Past({"learning_rate": 0.01, "optimizer": "sgd"}, "complete", 0.9)], seed=["1"]
        )
        is not None
    )


@pytest.mark.parametrize("search", [{}, {"nested": True}, {"screen": {"min_epochs": 1, "eta": 2}}])
def test_a_search_that_is_cut_off_goes_on_where_it_was(
    tmp_path: Path, search: dict[str, Any]
) -> None:
    """One worker: the questions after an interruption are those of a run without one, and nothing
    is trained twice."""
    space = {"space": RATES | {"momentum": [0.5, 0.9]}, "configurations": 7, "startup": 3} | search
    whole, results = hunt_of(study_with(tmp_path / "whole", space)), dict[str, Any]()
    expected = play(whole, best_at(0.2), results)
    study, cut, ended = study_with(tmp_path / "cut", space), dict[str, Any](), list[TrialSpec]()
    while True:
        hunt = hunt_of(study)  # from the record and the results alone
        part = play(hunt, best_at(0.2), cut, most=4)
        ended += part
        if len(part) < 4:
            break
    assert [spec.trial_id for spec in ended] == [spec.trial_id for spec in expected]
    assert cut == results
    assert [entry.to_json() for entry in hunt.main.entries] == [
        entry.to_json() for entry in whole.main.entries
    ]


def test_a_longer_search_continues_a_shorter_one_and_another_space_begins_anew(
    tmp_path: Path,
) -> None:
    study, results = study_with(tmp_path, {"space": RATES, "configurations": 4}), dict[str, Any]()
    first = hunt_of(study)
    play(first, best_at(0.2), results)
    longer = hunt_of(study_with(tmp_path, {"space": RATES, "configurations": 6, "nested": True}))
    assert longer.folder == first.folder
    assert longer.main.entries == first.main.entries
    assert (
        hunt_of(
            study_with(tmp_path, {"space": RATES, "sampler": "random", "configurations": 4})
        ).folder
        != first.folder
    )
    assert (
        hunt_of(
            study_with(tmp_path, {"space": RATES, "configurations": 4}, training={"batch_size": 9})
        ).folder
        != first.folder
    )


def test_a_lost_record_costs_no_training(tmp_path: Path) -> None:
    study, results = study_with(tmp_path, {"space": RATES, "configurations": 6}), dict[str, Any]()
    hunt = hunt_of(study)
    play(hunt, best_at(0.2), results)
    Place(study.work).remove(hunt.folder)
    again = hunt_of(study)
    assert play(again, best_at(0.2), results) == []
    assert values_of(again) == values_of(hunt)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    study = study_with(tmp_path, {"space": RATES, "configurations": 3})
    hunt = hunt_of(study)
    play(hunt, best_at(0.2), {})
    file = Path(study.work) / hunt.folder / "race.json"
    file.write_bytes(file.read_bytes().replace(b'"number": 1', b'"number": 2'))
    with pytest.raises(DamagedFileError, match=r"race\.json is damaged"):
        hunt_of(study)


def test_a_configuration_that_fails_is_left_and_tpe_told(tmp_path: Path) -> None:
    study, results = (
        study_with(tmp_path, {"space": RATES, "configurations": 8, "startup": 2}),
        dict[str, Any](),
    )
    hunt = hunt_of(study)
    ended = play(hunt, best_at(0.2), results, fails=lambda spec: spec.training.learning_rate > 0.1)
    failing = [spec for spec in ended if spec.training.learning_rate > 0.1]
    assert failing
    assert len({spec.training.learning_rate for spec in failing}) == len(
        failing
    )  # given up with its first fold
    assert len(hunt.main.entries) == 8
    again = play(hunt_of(study), best_at(0.2), results)  # the next run tries them again
    assert {spec.trial_id for spec in failing} <= {spec.trial_id for spec in again}


def test_screening_lets_one_in_eta_race(tmp_path: Path) -> None:
    search = {
        "space": RATES,
        "configurations": 10,
        "sampler": "random",
        "screen": {"min_epochs": 1, "eta": 3, "fold": 1},
        "stop": None,
    }
    epochs = {"image": 9, "fc": 3, "gru": 3}
    study = study_with(
        tmp_path,
        search,
        training={"epochs": epochs, "batch_size": 8, "embedding": 32, "gru_units": 8},
    )
    hunt, results = hunt_of(study), {}
    assert hunt.main.rungs == [1, 3]
    ended = play(hunt, best_at(0.2), results)
    by_epochs = {count: [spec for spec in ended if spec.epochs == count] for count in (1, 3, 9)}
    assert (len(by_epochs[1]), len(by_epochs[3])) == (
        9,
        3,
    )  # the study file's own settings are not screened
    assert {spec.fold for spec in (*by_epochs[1], *by_epochs[3])} == {1}
    assert len(by_epochs[9]) == 3 + 3
    rates = sorted(
        (entry.values["learning_rate"] for entry in hunt.main.entries[1:]),
        key=lambda rate: abs(np.log10(rate) - np.log10(0.2)),
    )
    assert {spec.training.learning_rate for spec in by_epochs[3]} <= set(rates[:5])
    [winner] = [
        entry
        for entry in hunt.main.entries[1:]
        if hunt.main.state(entry, results, ()) == "complete"
    ]
    assert winner.values["learning_rate"] in rates[:2]
    screened = [
        entry for entry in hunt.main.entries if hunt.main.state(entry, results, ()) == "screened"
    ]
    assert sorted(entry.end.folds for entry in screened if entry.end) == [1] * 6 + [3] * 2


def test_few_configurations_leave_one_to_race(tmp_path: Path) -> None:
    hunt, results = (
        hunt_of(
            study_with(
                tmp_path,
                {"space": RATES, "configurations": 3, "screen": {"min_epochs": 1, "eta": 3}},
            )
        ),
        {},
    )
    play(hunt, best_at(0.2), results, workers=4)
    assert sum(entry.end is None and entry.number > 0 for entry in hunt.main.entries) == 1


def test_a_search_over_the_gru_shares_its_image_trials(tmp_path: Path) -> None:
    search = {
        "space": {"gru_units": [4, 8, 16], "gru_layers": [1, 2]},
        "sampler": "grid",
        "head": "gru",
        "stop": None,
    }
    hunt, results = hunt_of(study_with(tmp_path, search)), {}
    ended = play(hunt, lambda spec: 0.5 + 0.01 * spec.training.gru_units, results, workers=2)
    assert (
        len([spec for spec in ended if spec.head is Head.IMAGE]) == 3
    )  # one a fold, for all six configurations
    assert len([spec for spec in ended if spec.head is Head.GRU]) == 18
    best = hunt.main.best(results)
    assert best is not None
    assert best.values["gru_units"] == 16


# Nested


def nested_study(folder: Path) -> Any:
    return study_with(folder, {"space": RATES, "configurations": 5, "startup": 2, "nested": True})


def test_the_inner_searches_see_nothing_of_their_outer_fold(tmp_path: Path) -> None:
    study = nested_study(tmp_path)
    hunt, results = hunt_of(study), {}
    ended = play(hunt, best_at(0.2), results, workers=2)
    splits = plan_of(hunt).splits
    inner = [spec for spec in ended if spec.outer is not None]
    assert {(spec.outer, spec.fold) for spec in inner} == {
        (outer, fold) for outer in range(3) for fold in range(3) if outer != fold
    }
    for spec in inner:
        fold = splits.fold(spec.fold, without=spec.outer)
        outside = splits.of_fold(spec.outer)
        assert outside
        assert not outside & {*fold.train, *fold.validation}
        assert {*fold.train, *fold.validation} | outside == set(splits.training)
    judged = [spec for spec in ended if spec.outer is None]
    assert all(
        set(splits.fold(spec.fold).train) | splits.of_fold(spec.fold) == set(splits.training)
        for spec in judged
    )


def test_the_inner_choice_follows_from_inner_scores_alone(tmp_path: Path) -> None:
    """On the outer fold another learning rate would win: an inner search that looked there would
    choose it."""

    def treacherous(spec: TrialSpec) -> float:
        return best_at(0.0005 if spec.outer is None else 0.3)(spec)

    study = nested_study(tmp_path)
    hunt, results = hunt_of(study), {}
    play(hunt, treacherous, results, workers=2)
    found = keep_outcome(hunt, Place(study.work), results, ())
    for outer, row in zip(hunt.outer, found["nested"], strict=True):
        means = {entry.number: outer.race.mean(entry, results) for entry in outer.race.entries}
        assert row["number"] == max(
            (n for n in means if means[n] is not None), key=lambda n: (means[n], -n)
        )
        assert row["inner_mean"] == means[row["number"]]
        [chosen] = hunt.bench.chain(row["values"], outer.fold)
        assert (
            row["auc"]
            == results[chosen.trial_id]["levels"]["slice"]["metrics"]["auc"]
            == pytest.approx(treacherous(chosen))
        )
        assert row["auc"] < row["inner_mean"]
        [own] = hunt.bench.chain(own_values(study), outer.fold)
        assert row["own_auc"] == results[own.trial_id]["levels"]["slice"]["metrics"]["auc"]
    assert found["is_over"]


def test_inner_searches_screen_within_their_own_folds(tmp_path: Path) -> None:
    search = {
        "space": RATES,
        "configurations": 4,
        "startup": 2,
        "nested": True,
        "screen": {"min_epochs": 1, "eta": 2, "fold": 1},
    }
    ended = play(hunt_of(study_with(tmp_path, search)), best_at(0.2), {}, workers=2)
    short = [spec for spec in ended if spec.epochs < 3]
    assert {(spec.outer, spec.fold) for spec in short} == {
        (None, 1),
        (0, 1),
        (1, 0),
        (2, 1),
    }  # without its fold, an inner search screens on its first one


def test_an_outer_fold_is_judged_only_when_its_search_is_over(tmp_path: Path) -> None:
    hunt, results = hunt_of(nested_study(tmp_path)), dict[str, Any]()
    play(hunt, best_at(0.2), results, most=20)
    for outer in hunt.outer:
        over = outer.race.is_over(results, ())
        assert bool(hunt.judged_chains(outer, results, ())) == over
    assert not all(outer.race.is_over(results, ()) for outer in hunt.outer)


def test_a_patient_of_the_outer_fold_is_a_leak() -> None:
    def side(*patients: str) -> Samples:
        return Samples(
            Picked.whole(np.zeros((len(patients), 2), np.float32)),
            np.zeros(len(patients), np.int8),
            patients,
            None,
        )

    Feed(side("a"), side("b"), frozenset(), frozenset({"c"}))
    for train, validation in ((("a", "c"), ("b",)), (("a",), ("b", "c"))):
        with pytest.raises(LeakError, match="patient c of the outer fold"):
            Feed(side(*train), side(*validation), frozenset(), frozenset({"c"}))


def test_the_left_out_fold_cannot_validate(tmp_path: Path) -> None:
    splits = plan_of(hunt_of(nested_study(tmp_path))).splits
    with pytest.raises(StudyError, match="fold 1 cannot validate where it is left out"):
        splits.fold(1, without=1)


# What comes out


def test_the_best_is_a_study_file_that_reads_back(tmp_path: Path) -> None:
    study, results = (
        study_with(
            tmp_path / "work",
            {"space": RATES | {"augmentation": {"flip": [True, False]}}, "configurations": 6},
        ),
        dict[str, Any](),
    )
    hunt = hunt_of(study)
    play(hunt, best_at(0.2), results)
    work = Place(study.work)
    found = keep_outcome(hunt, work, results, ())
    assert read_outcome(work) == found
    best = hunt.main.best(results)
    assert best is not None
    assert best.number > 0
    read = load_study(work.path(BEST))
    assert read == best_study(study, best.values)
    assert read.search is None
    assert read.training.learning_rate == best.values["learning_rate"]
    assert found["training"] == read.training.model_dump(mode="json")
    trials = {spec.trial_id for spec in make_plan(read, work).specs({}) if spec.head is Head.IMAGE}
    assert trials <= results.keys()  # it finds its image trials finished
    text = work.read(BEST).decode()
    assert text.startswith("# configuration")
    assert "optimistic" in text.splitlines()[1]
    yaml.safe_load(text)


def test_status_and_plan_say_where_the_search_stands(tmp_path: Path) -> None:
    study, results = nested_study(tmp_path), dict[str, Any]()
    work = Place(study.work)
    assert search_status(study, work) == []
    assert any(
        "at most 48 trials of its own" in line for line in describe_search(study)
    )  # 5 x 3, within 3 x 5 x 2, and 3 winners
    play(hunt_of(study), best_at(0.2), results, most=2)
    assert search_status(study, work)[0].startswith("search: 1 configuration, 1 running")


def test_a_study_without_a_search_or_unprepared_is_refused(tmp_path: Path) -> None:
    study = study_with(tmp_path / "a", {"space": RATES})
    with pytest.raises(StudyError, match="no section `search`"):
        make_bench(study.model_copy(update={"search": None}))
    with pytest.raises(StudyError, match="is not prepared"):
        make_bench(study.model_copy(update={"work": str(tmp_path / "b")}))


def test_an_entry_reads_back() -> None:
    entry = Entry(3, {"learning_rate": 0.1}, 1)
    assert Entry.from_json(json.loads(json.dumps(entry.to_json()))) == entry
    assert told(0.5)["levels"]["slice"]["metrics"]["auc"] == 0.5
