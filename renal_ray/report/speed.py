"""How fast the image trials trained, beside what arithmetic allows."""

import pandas as pd

from renal_ray.model.flops import TRAINED_PASSES, suffix_gflops
from renal_ray.report.evidence import Evidence
from renal_ray.report.tables import Row, Table, group_row
from renal_ray.report.text import DASH
from renal_ray.report.trials import Trial
from renal_ray.types import Dataset, FreezePoint, Head

COLUMNS = (
    "dataset",
    "freeze_point",
    "images_per_second",
    "gflops",
    "matrix_gflops",
    "achieved_over_floor",
    "minutes_trained",
    "minutes_floor",
)


def speed_table(evidence: Evidence) -> Table:
    """Achieved over floor: gradient steps of the image trials against the arithmetic of the trained
    layers at the measured matrix rate."""
    rows, data = [], []
    for dataset in evidence.study.datasets:
        rows.append(group_row(evidence, dataset, len(COLUMNS) - 1, selected=False))
        for point in evidence.freeze_points:
            found = _speed(
                evidence.study.images.size,
                dataset,
                point,
                evidence.cell(dataset, point, Head.IMAGE),
            )
            data.append(found)
            rows.append(Row((str(point), *(_shown(name, found[name]) for name in COLUMNS[2:]))))
    return Table(
        name="speed",
        title="Speed: achieved over floor",
        columns=(
            "Freeze point",
            "Images/s",
            "GFLOP/s",
            "Matrix GFLOP/s",
            "Achieved / floor",
            "Minutes trained",
            "Minutes at the floor",
        ),
        rows=tuple(rows),
        data=pd.DataFrame(data, columns=list(COLUMNS)),
        left=1,
        notes=(
            "The floor of a training step is three forward passes of the trained layers "
            "(multiply and add counted apart), at the rate of a large matrix "
            "product measured in the trial's own process. Validation, reading and writing "
            "are not counted as achieved. mixed10 trains no convolution: "
            "its floor is nothing.",
        ),
    )


def _speed(
    size: int, dataset: Dataset, point: FreezePoint, trials: list[Trial]
) -> dict[str, str | float | None]:
    known = [trial.result for trial in trials if "matrix_gflops" in trial.result]
    step = TRAINED_PASSES * suffix_gflops(size, point)
    found: dict[str, str | float | None] = dict.fromkeys(COLUMNS) | {
        "dataset": str(dataset),
        "freeze_point": str(point),
    }
    if not known:
        return found
    seconds = sum(float(result["seconds"]["train"]) for result in known)
    samples = sum(int(result["samples"]) for result in known)
    rate = sum(float(result["matrix_gflops"]) for result in known) / len(known)
    found |= {
        "images_per_second": samples / seconds,
        "matrix_gflops": rate,
        "minutes_trained": seconds / 60,
    }
    achieved = step * samples / seconds
    return found | (
        {
            "gflops": achieved,
            "achieved_over_floor": achieved / rate,
            "minutes_floor": step * samples / rate / 60,
        }
        if step
        else {}
    )


def _shown(name: str, value: str | float | None) -> str:
    if not isinstance(value, float):
        return DASH
    return (
        f"{value:.2f}"
        if name in ("achieved_over_floor", "minutes_trained", "minutes_floor")
        else f"{value:,.1f}"
    )
