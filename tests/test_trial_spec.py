"""A trial's name follows from everything that decides its numbers, and from nothing else."""

import json
from typing import Any

import pytest
from conftest import small_study

from renal_ray.trial.spec import TRUE_LABELS, Inputs, TrialSpec, cost_rank, make_spec, permuted_name
from renal_ray.types import Dataset, FreezePoint, Head

INPUTS = Inputs(slices="s", splits="p", weights="w")


def spec(
    head: Head = Head.IMAGE, changes: dict[str, Any] | None = None, **arguments: Any
) -> TrialSpec:
    study = small_study("work", **(changes or {}))
    image_trial = None if head is Head.IMAGE else "roi-mixed6-image-fold2-00000000"
    given = {
        "dataset": Dataset.ROI,
        "freeze_point": FreezePoint.MIXED6,
        "head": head,
        "fold": 1,
        "inputs": INPUTS,
        "image_trial": image_trial,
    }
    return make_spec(study, **given | arguments)


def training(**changes: Any) -> dict[str, Any]:
    base = {
        "epochs": {"image": 3, "fc": 3, "gru": 3},
        "batch_size": 8,
        "embedding": 32,
        "gru_units": 8,
    }
    return {"training": base | changes}


EPOCHS = {"image": 3, "fc": 3, "gru": 3}


@pytest.mark.parametrize("head", Head)
@pytest.mark.parametrize(
    ("changes", "heads"),
    [
        (training(learning_rate=0.02), set(Head)),
        (training(momentum=0.8), set(Head)),
        (training(batch_size=9), set(Head)),
        (training(keep="best_val_auc"), set(Head)),
        (training(embedding=33), set(Head)),
        (training(bn_statistics="moving"), {Head.IMAGE}),
        (training(gru_units=9), {Head.GRU}),
        (training(gru_l2=1e-3), {Head.GRU}),
        (training(epochs=EPOCHS | {"image": 4}), {Head.IMAGE}),
        (training(epochs=EPOCHS | {"fc": 4}), {Head.FC}),
        (training(epochs=EPOCHS | {"gru": 4}), {Head.GRU}),
        ({"seed": 18}, set(Head)),
        ({"weights": "imagenet"}, set(Head)),
        ({"backend": "jax"}, set(Head)),
        ({"activation_dtype": "float16"}, set(Head)),
        ({"images": {"size": 76}}, set(Head)),
        ({"name": "other"}, set()),
        ({"datasets": ["roi", "rbr"]}, set()),
        ({"freeze_points": ["mixed0"]}, set()),
        ({"folds": {"n": 2, "run": [0]}}, set()),
        ({"heads": {"use": ["image"]}}, set()),
        ({"controls": {"permuted_labels": True}}, set()),
        ({"resources": {"cpus": 1, "gpus_per_trial": 1}}, set()),
        ({"cohort": {"kits": "elsewhere"}}, set()),
        ({"weights": "random"}, set()),
    ],
)
def test_a_setting_names_new_trials_of_the_heads_that_it_decides(
    head: Head, changes: dict[str, Any], heads: set[Head]
) -> None:
    assert (spec(head, changes).trial_id != spec(head).trial_id) == (head in heads)


@pytest.mark.parametrize(
    "arguments",
    [
        {"dataset": Dataset.RBR},
        {"freeze_point": FreezePoint.MIXED9},
        {"fold": 0},
        {"labels": permuted_name(0)},
        {"inputs": INPUTS.model_copy(update={"slices": "x"})},
        {"inputs": INPUTS.model_copy(update={"splits": "x"})},
        {"inputs": INPUTS.model_copy(update={"weights": "x"})},
        {"inputs": INPUTS.model_copy(update={"code": "9.9"})},
        {"image_trial": "another"},
    ],
)
def test_a_trial_s_own_fields_name_it(arguments: dict[str, Any]) -> None:
    assert spec(**arguments).trial_id != spec().trial_id


def test_a_changed_copy_has_a_name_of_its_own() -> None:
    one = spec()
    name = one.trial_id
    assert one.model_copy(update={"seed": one.seed + 1}).trial_id != name
    assert one.model_copy(update={"seed": one.seed + 1}, deep=True).trial_id != name
    assert one.model_copy().trial_id == name == spec().trial_id
    assert one == spec()  # whether or not it was asked for its name
    assert hash(one) == hash(spec())


def test_a_weights_file_is_known_by_its_name_and_hash_not_by_its_folder() -> None:
    assert (
        spec(changes={"weights": "/a/w.h5"}).trial_id
        == spec(changes={"weights": "/b/w.h5"}).trial_id
    )
    assert spec(changes={"weights": "/a/w.h5"}).weights == "w.h5"


def test_the_name_is_readable() -> None:
    name = spec(Head.GRU).trial_id
    assert name.startswith("roi-mixed6-gru-fold1-")
    assert len(name.rsplit("-", 1)[1]) == 8
    assert spec(labels=permuted_name(3)).trial_id.startswith("roi-mixed6-image-permuted3-fold1-")


def test_every_trial_has_a_seed_of_its_own() -> None:
    kinds = [
        {"dataset": dataset, "freeze_point": point, "head": head, "fold": fold, "labels": labels}
        for dataset in Dataset
        for point in FreezePoint
        for head in Head
        for fold in range(5)
        for labels in (TRUE_LABELS, permuted_name(0))
    ]
    seeds = {spec(**kind).seed for kind in kinds}
    assert len(seeds) == len(kinds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert (
        spec().seed == spec(changes=training(learning_rate=0.5)).seed
    )  # settings are compared under the same draws


@pytest.mark.parametrize("head", Head)
def test_json_round_trip(head: Head) -> None:
    one = spec(head)
    data = json.loads(json.dumps(one.to_json()))
    assert data["trial_id"] == one.trial_id
    assert TrialSpec.from_json(data) == one
    assert TrialSpec.from_json(data).trial_id == one.trial_id
    wanted = {
        "trial_id",
        "dataset",
        "freeze_point",
        "head",
        "fold",
        "labels",
        "seed",
        "size",
        "epochs",
        "training",
        "weights",
        "backend",
        "precision",
        "activation_dtype",
        "image_trial",
        "inputs",
    }
    assert data.keys() == wanted
    assert data["inputs"].keys() == {"slices", "splits", "weights", "code"}


@pytest.mark.parametrize("head", Head)
def test_a_written_specification_says_what_was_used(head: Head) -> None:
    """Of other heads' settings, which would stand at their defaults, nothing is written."""
    wanted = {
        "training": {"epochs": {"image": 6, "fc": 20, "gru": 21}, "gru_units": 32, "embedding": 33}
    }
    written = spec(head, wanted).to_json()
    assert written["epochs"] == {Head.IMAGE: 6, Head.FC: 20, Head.GRU: 21}[head]
    assert "epochs" not in written["training"]
    assert written["training"].get("gru_units") == (32 if head is Head.GRU else None)
    assert ("bn_statistics" in written["training"]) == (head is Head.IMAGE)
    assert "augmentation" not in written["training"]
    assert written["training"]["embedding"] == 33
    varied = spec(head, {"training": {"augmentation": {"flip": True}}}).to_json()["training"]
    assert varied.get("augmentation", {}).get("flip") == (True if head is Head.IMAGE else None)


def test_an_unknown_key_in_a_specification_is_refused() -> None:
    with pytest.raises(ValueError, match="extra"):
        TrialSpec.from_json(spec().to_json() | {"more": 1})


def test_the_activations_are_named_by_what_they_depend_on() -> None:
    base = spec().activations
    assert base.folder == f"activations/roi/mixed6/{base.key}"
    assert (
        spec(fold=0, changes=training(learning_rate=0.5) | {"seed": 3}).activations == base
    )  # the backbone's weights are in inputs
    assert spec(inputs=INPUTS.model_copy(update={"splits": "x"})).activations == base
    for changed in (
        spec(changes={"activation_dtype": "float16"}),
        spec(changes={"images": {"size": 76}}),
        spec(inputs=INPUTS.model_copy(update={"slices": "x"})),
        spec(inputs=INPUTS.model_copy(update={"weights": "x"})),
    ):
        assert changed.activations.key != base.key


def test_the_longest_trials_go_first() -> None:
    mixed = [
        spec(Head.GRU),
        spec(freeze_point=FreezePoint.MIXED10),
        spec(Head.FC),
        spec(freeze_point=FreezePoint.MIXED0),
    ]
    assert [(one.head, one.freeze_point) for one in sorted(mixed, key=cost_rank)] == [
        (Head.IMAGE, FreezePoint.MIXED0),
        (Head.IMAGE, FreezePoint.MIXED10),
        (Head.FC, FreezePoint.MIXED6),
        (Head.GRU, FreezePoint.MIXED6),
    ]


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (Head.IMAGE, "roi-mixed6-image-fold1-6467df5f"),
        (Head.FC, "roi-mixed6-fc-fold1-d6cd5360"),
        (Head.GRU, "roi-mixed6-gru-fold1-932d2cde"),
    ],
)
def test_settings_that_came_later_name_nothing_at_their_defaults(head: Head, name: str) -> None:
    """The names that trials had before there were other optimizers, augmentation or outer folds:
    what is finished stays finished."""
    pinned = INPUTS.model_copy(update={"code": "0.1.0"})
    assert spec(head, inputs=pinned).trial_id == name
    defaults = {
        "optimizer": "sgd",
        "weight_decay": 0,
        "dropout": 0,
        "label_smoothing": 0,
        "gru_layers": 2,
        "augmentation": {"flip": False, "rotate_deg": 0},
    }
    assert spec(head, training(**defaults), inputs=pinned).trial_id == name
    assert (
        TrialSpec.from_json(json.loads(json.dumps(spec(head, inputs=pinned).to_json()))).trial_id
        == name
    )


@pytest.mark.parametrize("head", Head)
@pytest.mark.parametrize(
    ("changes", "heads"),
    [
        (training(optimizer="adam"), set(Head)),
        (training(weight_decay=0.1), set(Head)),
        (training(dropout=0.1), set(Head)),
        (training(label_smoothing=0.1), set(Head)),
        (training(gru_layers=1), {Head.GRU}),
        (training(augmentation={"flip": True}), {Head.IMAGE}),
        (training(augmentation={"copies": 3}), set()),
        ({"search": {"space": {"dropout": [0, 0.5]}}}, set()),
    ],
)
def test_later_settings_name_new_trials_of_the_heads_that_they_decide(
    head: Head, changes: dict[str, Any], heads: set[Head]
) -> None:
    changed = spec(head, changes)
    assert (changed.trial_id != spec(head).trial_id) == (head in heads)
    assert (
        TrialSpec.from_json(json.loads(json.dumps(changed.to_json()))).trial_id == changed.trial_id
    )


def test_an_outer_fold_names_another_trial() -> None:
    outer = spec(outer=2)
    assert outer.trial_id.startswith("roi-mixed6-image-outer2-fold1-")
    assert outer.seed == spec().seed
