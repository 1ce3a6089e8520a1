"""Attention of a trial's model: through prefix, suffix and head, the same on both backends, and
under seal."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from renal_ray.problems import StudyError
from renal_ray.protocol.attention import attention_map
from renal_ray.store.ledger import FILES, Ledger
from renal_ray.store.place import Place
from renal_ray.trial.explain import attention_maps, evidence
from renal_ray.trial.spec import Inputs, TrialSpec, make_spec
from renal_ray.trial.workshop import Workshop, backbone_file
from renal_ray.types import Dataset, FreezePoint, Head

# The smallest image on which the last convolutional layer has 3 x 3 places is 139 pixels wide.
SIZE = 139
POINTS = (FreezePoint.MIXED9, FreezePoint.MIXED10)


@dataclass(frozen=True)
class Untrained:
    """Image trials whose weights are drawn, not trained, on drawn images."""

    work: Place
    specs: dict[FreezePoint, TrialSpec]
    images: np.ndarray


def drawn_images(n: int, seed: int = 0) -> np.ndarray:
    """A bright blob somewhere on coarse noise, uint8 (n, SIZE, SIZE, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    images = rng.normal(60, 25, (n, SIZE, SIZE, 3))
    for image in images:
        centre = rng.uniform(20, SIZE - 20, 2)
        image += 150 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 400)[..., None]
    return np.clip(images, 0, 255).astype(np.uint8)


def untrained(folder: Path, points: tuple[FreezePoint, ...] = POINTS) -> Untrained:
    """Writes backbone and trials as a sweep would, with a head that was never trained."""
    from conftest import small_study

    from renal_ray.model.backbone import build_backbone
    from renal_ray.model.initial import weights_by_name
    from renal_ray.model.weight_files import save_weights_h5
    from renal_ray.model.weights import load_weights

    study = small_study(
        folder, images={"size": SIZE}, freeze_points=[str(point) for point in points]
    )
    work, images = Place(study.work), drawn_images(6)
    backbone = build_backbone(SIZE)
    load_weights(backbone, "random", seed=1, calibration=[drawn_images(8, seed=1)])
    work.write(backbone_file("b" * 64), save_weights_h5(weights_by_name(backbone)))
    inputs = Inputs(slices="s", splits="p", weights="b" * 64)
    workshop, ledger, specs = Workshop(work), Ledger(work), {}
    for point in points:
        spec = specs[point] = make_spec(
            study, dataset=Dataset.ROI, freeze_point=point, head=Head.IMAGE, fold=0, inputs=inputs
        )
        model = workshop.model(spec)
        model.reset(seed=spec.seed, weights=workshop.backbone(spec.inputs.weights))
        kernel = np.abs(model.get_weights_by_name()["scores/kernel"])
        # Every embedding speaks for malignant: what is left of sums that cancel would show the
        # backends' rounding, hundreds of times enlarged.
        model.model.get_layer("scores").kernel.assign(kernel * np.array([-1, 1], np.float32))
        place = ledger.begin(spec.trial_id, spec.to_json())
        for name in FILES:
            if name != "spec.json":
                place.write(
                    name,
                    save_weights_h5(model.get_weights_by_name()) if name == "weights.h5" else b"-",
                )
        ledger.finish(spec.trial_id, {"trial_id": spec.trial_id})
    return Untrained(work, specs, images)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Untrained:
    return untrained(tmp_path_factory.mktemp("untrained"))


def by_hand(made: Untrained, point: FreezePoint) -> np.ndarray:
    """Grad-CAM before the ReLU from mixed10's features and the head's weights, by the chain rule on
    paper."""
    from renal_ray.model.backbone import build_backbone, scaled
    from renal_ray.model.initial import set_weights_by_name
    from renal_ray.model.weight_files import load_weights_h5

    weights = load_weights_h5(
        Ledger(made.work).read_checked(made.specs[point].trial_id, "weights.h5")
    )
    backbone = build_backbone(SIZE)
    body = {layer.name for layer in backbone.layers}
    set_weights_by_name(
        backbone, load_weights_h5(made.work.read(backbone_file("b" * 64))) | weights, layers=body
    )
    features = np.asarray(backbone.predict_on_batch(scaled(made.images)), np.float64)
    before_relu = (
        features.mean(axis=(1, 2)) @ weights["embedding/kernel"] + weights["embedding/bias"]
    )
    classes = (before_relu > 0) * (weights["scores/kernel"][:, 1] - weights["scores/kernel"][:, 0])
    slope = classes @ weights["embedding/kernel"].T / features[0, ..., 0].size  # (n, channels)
    return np.einsum("nijk,nk->nij", features, slope)


def test_frozen_layers_take_a_whole_backbone_and_nothing_beside(made: Untrained) -> None:
    from renal_ray.model.weight_files import load_weights_h5
    from renal_ray.trial.prefix import Prefix

    whole = load_weights_h5(made.work.read(backbone_file("b" * 64)))
    prefix = Prefix(whole, size=SIZE, freeze_points=[FreezePoint.MIXED9], batch_size=2)
    for given, said in (
        (whole | {"conv2d_94/kernel": np.zeros(3)}, "conv2d_94/kernel is surplus"),
        ({}, "are missing"),
    ):
        with pytest.raises(StudyError, match=said):
            prefix.load(given)


@pytest.mark.parametrize("point", POINTS)
def test_through_prefix_suffix_and_head_it_is_the_chain_rule(
    made: Untrained, point: FreezePoint
) -> None:
    workshop, spec = Workshop(made.work), made.specs[point]
    [found] = evidence(spec, made.images, made.work, workshop)
    wanted = by_hand(made, point)
    assert found.shape == (6, 3, 3)
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())
    maps = attention_maps(spec, made.images, made.work, workshop)
    assert (maps.shape, maps.dtype) == ((6, SIZE, SIZE), np.float32)
    np.testing.assert_array_equal(maps, [attention_map(one, SIZE) for one in found])
    assert set(maps.max(axis=(1, 2)).tolist()) <= {0.0, 1.0}
    assert maps.min() >= 0
    np.testing.assert_allclose(
        attention_maps(spec, made.images[4:], made.work, workshop), maps[4:], atol=1e-4
    )


def test_a_redrawn_head_gives_another_map_and_leaves_the_trial_as_it_was(made: Untrained) -> None:
    workshop, spec = Workshop(made.work), made.specs[FreezePoint.MIXED10]
    own, redrawn = evidence(spec, made.images, made.work, workshop, redrawn=True)
    np.testing.assert_allclose(
        own, by_hand(made, FreezePoint.MIXED10), atol=1e-3 * np.abs(own).max()
    )
    assert np.abs(redrawn - own).max() > 0.1 * np.abs(own).max()
    again = evidence(spec, made.images, made.work, workshop, redrawn=True)
    np.testing.assert_array_equal(again[0], own)  # its weights come back from the trial
    np.testing.assert_array_equal(again[1], redrawn)  # and the drawing follows from the seed


def test_both_backends_give_the_same_map(made: Untrained, tmp_path: Path) -> None:
    """In a process each: Keras takes its backend when it is imported, once."""
    maps = {}
    for backend in ("tensorflow", "jax"):
        file = tmp_path / f"{backend}.npz"
        environment = os.environ | {"KERAS_BACKEND": backend}
        ids = [spec.trial_id for spec in made.specs.values()]
        done = subprocess.run(
            [sys.executable, __file__, made.work.uri, file, *ids],
            check=True,
            env=environment,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        assert done.stdout.splitlines()[-1] == backend
        with np.load(file) as found:
            maps[backend] = {name: found[name] for name in found.files}
    for point, spec in made.specs.items():
        for what, tolerance in (("activations", 1e-4), ("images", 5e-4)):
            ours = maps["tensorflow"][f"{what}-{spec.trial_id}"]
            assert ours.max(axis=(1, 2)).tolist() == [1] * len(ours), point
            np.testing.assert_allclose(maps["jax"][f"{what}-{spec.trial_id}"], ours, atol=tolerance)


def maps_here(work: Place, ids: list[str]) -> dict[str, np.ndarray]:
    """Maps of the same activations, and of the same images, on the backend of this process.

    Through all 94 convolutions of a random network rounding alone moves a map by up to 2e-4, from
    one implementation of TensorFlow's convolutions to the other too.
    """
    from renal_ray.model.weight_files import load_weights_h5

    workshop, maps = Workshop(work), {}
    for trial_id in ids:
        spec = TrialSpec.from_json(Ledger(work).folder(trial_id).read_json("spec.json"))
        maps[f"images-{trial_id}"] = attention_maps(spec, drawn_images(6), work, workshop)
        workshop.model(spec).set_weights_by_name(
            load_weights_h5(Ledger(work).read_checked(trial_id, "weights.h5"))
        )
        activations = np.random.default_rng(0).random(
            (4, 3, 3, 2048), dtype=np.float32
        )  # of mixed9 as of mixed10
        maps[f"activations-{trial_id}"] = np.stack(
            [attention_map(one, SIZE) for one in workshop.gradcam(spec)(activations, 4)]
        )
    return maps


if __name__ == "__main__":
    import keras

    np.savez(sys.argv[2], **maps_here(Place(sys.argv[1]), sys.argv[3:]))
    print(keras.backend.backend())
