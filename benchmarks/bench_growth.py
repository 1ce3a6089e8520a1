"""How cost grows with the number of patients: `renal-ray prepare`, then `renal-ray sweep`, on small
ones.

    python benchmarks/bench_growth.py [--patients 50 200 800] [--epochs 2]

Seconds an image, and peak memory of the driver, of the largest worker and of the largest process
that runs trials. Writes a plot beside the JSON.
"""

import argparse
import shutil
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from keeping import MACHINE, RESULTS, keep
from memory import peak_of_command
from small_cohort import write_small_cohort

from renal_ray.store.place import Place
from renal_ray.trial.plan import finished_results

STUDY = """
name: growth
work: {work}
cohort: {{manifest: {manifest}}}
datasets: [roi]
freeze_points: [mixed10]
heads: {{use: [image]}}
images: {{size: 75}}
folds: {{n: 2}}
weights: random
training: {{epochs: {{image: {epochs}}}, batch_size: 32}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, nargs="+", default=[50, 200, 800])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_growth"))
    options = parser.parse_args()
    rows = []
    for patients in options.patients:
        rows.append(grow(options.folder.absolute(), patients, options.epochs))
        print(rows[-1], flush=True)
    keep(
        "growth", ("renal-ray", "ray", "keras", "tensorflow", "numpy"), vars(options), cohorts=rows
    )
    plot(rows, RESULTS / f"growth-{MACHINE}.svg")


def grow(folder: Path, patients: int, epochs: int) -> dict[str, Any]:
    """Both commands on one cohort."""
    manifest, work = (
        write_small_cohort(folder / f"cohort-{patients}", patients),
        folder / "work" / str(patients),
    )
    shutil.rmtree(work, ignore_errors=True)
    study = folder / f"{patients}.yaml"
    study.write_text(STUDY.format(work=work, manifest=manifest, epochs=epochs), encoding="utf-8")
    prepared = _command("prepare", study)
    images = int(Place(str(work)).read_parquet("cohort.parquet", ["n_images"])["n_images"].sum())
    swept = _command("sweep", study)
    trained = sum(result["samples"] for result in finished_results(Place(str(work))).values())
    return {
        "patients": patients,
        "images": images,
        "prepare": prepared | {"s_per_image": prepared["seconds"] / images},
        "sweep": swept | {"images_trained": trained, "s_per_image": swept["seconds"] / images},
    }


def _command(name: str, study: Path) -> dict[str, Any]:
    begun = perf_counter()
    peaks = peak_of_command([str(Path(sys.executable).with_name("renal-ray")), name, str(study)])
    return {"seconds": perf_counter() - begun, "mib": peaks}


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Seconds an image and memory over the number of patients."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    patients = [row["patients"] for row in rows]
    for command in ("prepare", "sweep"):
        left.plot(
            patients, [1e3 * row[command]["s_per_image"] for row in rows], "o-", label=command
        )
        for who in rows[0][command]["mib"]:
            right.plot(
                patients,
                [row[command]["mib"].get(who) for row in rows],
                "o-",
                label=f"{command}: {who}",
            )
    for axes, title in ((left, "ms an image, start-up included"), (right, "peak memory, MiB")):
        axes.set(
            xscale="log",
            xlabel="patients",
            title=title,
            ylim=(0, None),
            xticks=patients,
            xticklabels=patients,
        )
        axes.minorticks_off()
        axes.legend(fontsize="small")
    figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()
