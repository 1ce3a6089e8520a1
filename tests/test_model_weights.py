"""Weights files of every kind load to the same network, and what cannot be loaded says why and what
to do."""

import socket
import time
import urllib.error
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from renal_ray.model.backbone import build_backbone
from renal_ray.model.initial import redraw, weights_by_name
from renal_ray.model.weight_files import load_weights_h5, save_weights_h5, weights_digest
from renal_ray.model.weights import load_weights
from renal_ray.problems import StudyError

SIZE = 75


@pytest.fixture(scope="module")
def source() -> keras.Model:
    """InceptionV3 with a classifier, as publishers have it, with statistics that are not the
    initial ones."""
    model = keras.applications.InceptionV3(
        include_top=True, weights=None, input_shape=(SIZE, SIZE, 3), classes=5
    )
    rng = np.random.default_rng(1)
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, array.shape) if array.ndim == 1 else array
            for array in model.get_weights()
        ]
    )
    return model


@pytest.fixture(scope="module")
def expected(source: keras.Model) -> list[np.ndarray]:
    return source.get_weights()[:-2]


def keras2_file(
    path: Path, model: keras.Model, *, top: bool, whole_model: bool, pieces: bool = False
) -> Path:
    """Writes what Keras 2 wrote: a group a layer, arrays named layer/variable:0, names as bytes in
    attributes."""
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if whole_model else file
        layers = model.layers if top else model.layers[:-2]
        names = np.array([layer.name.encode() for layer in layers])
        for number, piece in enumerate(np.array_split(names, 3) if pieces else [names]):
            group.attrs[f"layer_names{number}" if pieces else "layer_names"] = piece
        for layer in layers:
            inner = group.create_group(layer.name)
            arrays = {
                f"{layer.name}/{variable.name}:0": array
                for variable, array in zip(layer.weights, layer.get_weights(), strict=True)
            }
            inner.attrs["weight_names"] = np.array([name.encode() for name in arrays])
            for name, array in arrays.items():
                inner.create_dataset(name, data=array)
    return path


@pytest.fixture(scope="module")
def shared() -> keras.Model:
    return build_backbone(SIZE)


@pytest.fixture
def backbone(shared: keras.Model) -> keras.Model:
    """A backbone with all weights zero, so that nothing is left of another test."""
    shared.set_weights([np.zeros_like(array) for array in shared.get_weights()])
    return shared


@pytest.mark.parametrize(
    "kind",
    [
        "keras2-top",
        "keras2-notop",
        "keras2-model",
        "keras2-pieces",
        "keras3-legacy",
        "keras3-top",
        "keras3-notop",
        "own",
    ],
)
def test_every_kind_of_file_loads(
    kind: str,
    source: keras.Model,
    expected: list[np.ndarray],
    backbone: keras.Model,
    tmp_path: Path,
) -> None:
    path = tmp_path / ("a.weights.h5" if kind in ("keras3-top", "keras3-notop") else "a.h5")
    if kind == "keras3-legacy":
        source.save(path)
    elif kind == "keras3-top":
        source.save_weights(path)
    elif kind in ("keras3-notop", "own"):
        backbone.set_weights(expected)
        if kind == "own":
            path.write_bytes(save_weights_h5(weights_by_name(backbone)))
        else:
            backbone.save_weights(path)
    else:
        keras2_file(
            path,
            source,
            top=kind != "keras2-notop",
            whole_model=kind == "keras2-model",
            pieces=kind == "keras2-pieces",
        )
    backbone.set_weights([np.zeros_like(array) for array in expected])
    load_weights(backbone, str(path))
    for mine, theirs in zip(backbone.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_layers_stay_in_place_whatever_models_were_built_before(
    source: keras.Model, backbone: keras.Model, tmp_path: Path
) -> None:
    """The same images give the same features, so no two layers of equal shape were swapped."""
    load_weights(backbone, str(keras2_file(tmp_path / "a.h5", source, top=True, whole_model=True)))
    images = np.random.default_rng(2).uniform(-1, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
    features = keras.Model(source.input, source.get_layer("mixed10").output)
    np.testing.assert_allclose(
        backbone.predict_on_batch(images), features.predict_on_batch(images), rtol=1e-5, atol=1e-6
    )


def test_damaged_and_foreign_files_are_refused_with_a_remedy(
    source: keras.Model, backbone: keras.Model, tmp_path: Path
) -> None:
    good = keras2_file(tmp_path / "good.h5", source, top=False, whole_model=False)
    cut_short, text, empty, other, nan = (
        tmp_path / f"{name}.h5" for name in ("short", "text", "empty", "other", "nan")
    )
    cut_short.write_bytes(good.read_bytes()[:-1_000_000])
    text.write_text("not HDF5", encoding="utf-8")
    h5py.File(empty, "w").close()
    inputs = keras.Input((SIZE, SIZE, 3))
    keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs)).save(other)
    nan.write_bytes(good.read_bytes())
    with h5py.File(nan, "r+") as file:
        first = next(name for name in file if "conv2d" in name)
        file[first][f"{first}/kernel:0"][0, 0, 0, 0] = np.nan
    for path, what in (
        (cut_short, "damaged"),
        (text, "damaged"),
        (empty, "no layer_names"),
        (other, "1 layers with weights, not 188"),
        (nan, "not finite"),
    ):
        before = weights_by_name(backbone)
        with pytest.raises(StudyError, match=f"{path.name}.*{what}.*"):
            load_weights(backbone, str(path))
        assert weights_digest(weights_by_name(backbone)) == weights_digest(before)
    with pytest.raises(
        StudyError, match=r"nowhere\.h5 is not a file; give a whole InceptionV3 weights file"
    ):
        load_weights(backbone, str(tmp_path / "nowhere.h5"))


def test_wrong_shapes_are_named(source: keras.Model, backbone: keras.Model, tmp_path: Path) -> None:
    path = keras2_file(tmp_path / "a.h5", source, top=False, whole_model=False)
    with h5py.File(path, "r+") as file:
        first = next(layer.name for layer in source.layers if layer.weights)
        del file[first][f"{first}/kernel:0"]
        file[first].create_dataset(f"{first}/kernel:0", data=np.zeros((3, 3, 1, 32), np.float32))
    with pytest.raises(
        StudyError,
        match=r"conv2d/kernel has shape \(3, 3, 1, 32\), InceptionV3 needs \(3, 3, 3, 32\)",
    ):
        load_weights(backbone, str(path))


def test_imagenet_without_network_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, backbone: keras.Model, tmp_path: Path
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", unreachable)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(
        StudyError,
        match=r"weights: imagenet: .*no network.*on a connected machine.*give its path as weights:",
    ):
        load_weights(backbone, "imagenet")


def test_imagenet_does_not_wait_for_a_silent_network(
    monkeypatch: pytest.MonkeyPatch, backbone: keras.Model, tmp_path: Path
) -> None:
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    monkeypatch.setattr("renal_ray.model.weights.PATIENCE_S", 0.3)
    monkeypatch.setattr("urllib.request._opener", None)  # it remembers the proxies of its first use
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never answers
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StudyError, match=r"timed out.*on a connected machine"):
            load_weights(backbone, "imagenet")
    assert socket.getdefaulttimeout() is None


def test_imagenet_takes_the_file_that_keras_fetches(
    monkeypatch: pytest.MonkeyPatch,
    source: keras.Model,
    expected: list[np.ndarray],
    backbone: keras.Model,
    tmp_path: Path,
) -> None:
    path = keras2_file(tmp_path / "a.h5", source, top=False, whole_model=False)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(path))
    load_weights(backbone, "imagenet")
    for mine, theirs in zip(backbone.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_random_weights_depend_on_the_seed_alone(backbone: keras.Model) -> None:
    images = np.random.default_rng(4).integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8)
    digests = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(len(digests))
        if digests:
            backbone = build_backbone(SIZE)
        load_weights(backbone, "random", seed=seed, calibration=[images])
        digests.append(weights_digest(weights_by_name(backbone)))
    assert digests[0] == digests[1] != digests[2]
    with pytest.raises(ValueError, match="need images"):
        load_weights(backbone, "random")


def test_redraw_gives_every_layer_its_own_weights(backbone: keras.Model) -> None:
    redraw(backbone, seed=3)
    kernels = [
        array
        for name, array in weights_by_name(backbone).items()
        if name.endswith("kernel") and array.shape == (1, 1, 768, 192)
    ]
    assert len(kernels) > 5
    assert len({array.tobytes() for array in kernels}) == len(kernels)


def test_own_files_round_trip_and_are_equal_byte_for_byte() -> None:
    weights = {
        "conv2d_10/kernel": np.ones((2, 3), np.float32),
        "gru_1/gru_cell/bias": np.arange(3, dtype=np.float16),
        "scores/bias": np.float32(2),
    }
    data = save_weights_h5(weights)
    time.sleep(1.1)  # HDF5 can keep times to the second
    assert save_weights_h5(weights) == data
    back = load_weights_h5(data)
    assert set(back) == set(weights)
    assert all(
        np.array_equal(back[name], weights[name]) and back[name].dtype == weights[name].dtype
        for name in weights
    )
    assert weights_digest(back) == weights_digest(weights)


def test_own_files_damaged_foreign_or_absent(tmp_path: Path) -> None:
    data = save_weights_h5({"a/b": np.ones(1000, np.float32)})
    with pytest.raises(StudyError, match=r"weights\.h5: damaged or absent"):
        load_weights_h5(data[:-2000])
    with pytest.raises(StudyError, match=r"none\.h5: damaged or absent"):
        load_weights_h5(tmp_path / "none.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = np.ones(3)
    with pytest.raises(StudyError, match=r"other\.h5: not a weights file"):
        load_weights_h5(tmp_path / "other.h5")


def test_digest_sees_name_type_shape_and_bytes_but_not_order() -> None:
    weights = {"a": np.zeros((2, 3), np.float32), "b": np.ones(1, np.float32)}
    a, b = weights.values()
    others = [
        {"a": a.T, "b": b},
        {"a": a.view(np.int32), "b": b},
        {"a": a, "b": 2 * b},
        {"a": a, "c": b},
    ]
    assert len({weights_digest(one) for one in [weights, *others]}) == 5
    assert weights_digest(dict(reversed(weights.items()))) == weights_digest(weights)


def test_surplus_weights_of_a_layer_are_refused_by_name(
    source: keras.Model, backbone: keras.Model, tmp_path: Path
) -> None:
    """A normalisation with a gamma, a convolution or a layer more: networks that give other
    features with the weights that fit."""
    gamma, extra, own = tmp_path / "gamma.h5", tmp_path / "extra.weights.h5", tmp_path / "own.h5"
    keras2_file(gamma, source, top=False, whole_model=False)
    with h5py.File(gamma, "r+") as file:
        name = next(
            layer.name
            for layer in source.layers
            if isinstance(layer, keras.layers.BatchNormalization)
        )
        file[name].create_dataset(f"{name}/gamma:0", data=np.ones(32, np.float32))
        file[name].attrs["weight_names"] = np.append(
            file[name].attrs["weight_names"], f"{name}/gamma:0".encode()
        )
    source.save_weights(extra)
    own.write_bytes(
        save_weights_h5(
            weights_by_name(backbone)
            | {"embedding/kernel": np.zeros((2, 2)), "gru_1/bias": np.zeros(2)}
        )
    )
    load_weights(backbone, str(own))  # the head of a whole image model is a classifier at the end
    own.write_bytes(
        save_weights_h5(weights_by_name(backbone) | {"conv2d_94/kernel": np.zeros((2, 2))})
    )
    refused = [(gamma, "batch_normalization/gamma"), (own, "conv2d_94/kernel")]
    for kind in ("conv2d_94", "batch_normalization_94", "p_re_lu"):
        path = tmp_path / f"{kind}.weights.h5"
        path.write_bytes(extra.read_bytes())
        with h5py.File(path, "r+") as file:
            file.create_dataset(f"layers/{kind}/vars/0", data=np.zeros(3))
        refused.append((path, kind))
    before = weights_digest(weights_by_name(backbone))
    for path, named in refused:
        with pytest.raises(StudyError, match=rf"{path.name}.*{named}"):
            load_weights(backbone, str(path))
    assert weights_digest(weights_by_name(backbone)) == before
    with h5py.File(extra, "r+") as file:  # a classifier of several layers, one with dropout
        file.create_dataset("layers/dense_1/vars/0", data=np.zeros(3))
        file.create_dataset("layers/dropout/seed_generator/vars/0", data=np.zeros(2))
    load_weights(backbone, str(extra))
    np.testing.assert_array_equal(backbone.get_weights()[0], source.get_weights()[0])
