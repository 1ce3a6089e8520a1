"""One worker of the fuzzer: python tests/fuzz/worker.py FOLDER INPUTS SEED."""

import faulthandler
import json
import os
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzz.mutations import MUTATIONS, Mutation, mutate
from fuzz.seeds import Seed, write_seeds
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from renal_ray.config import Cohort, Selection
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, PatientError

MOST_S = 5.0
MOST_MIB = 100.0
COHORT = Cohort(
    manifest=Path("manifest.csv"),
    mask_resample=True,
    tilt="resample",
    oblique="resample",
    lesion_labels=[1, 2, 255],
)
EVERYTHING = Selection(min_area_fraction=0)


class BrokenError(AssertionError):
    """A reader broke its promise."""


def main(folder: Path, inputs: int, number: int) -> None:
    faulthandler.enable()
    seeds = write_seeds(folder / "seeds")
    for one in seeds:
        read_patient(
            one.image, one.mask, cohort=COHORT, selection=EVERYTHING
        )  # each is good before it is spoilt, and all code is loaded
    current, counts, heard = folder / "current", Counter[str](), folder / "counts.json"

    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @seed(number)
    @given(
        which=st.sampled_from(seeds),
        file=st.integers(0, 10_000),
        mutations=MUTATIONS,
        inside=st.booleans(),
    )
    def spoil(which: Seed, file: int, mutations: list[Mutation], inside: bool) -> None:
        image, mask = which.spoilt(
            current, file, lambda data: mutate(data, mutations, inside=inside)
        )
        heard.write_text(json.dumps(counts), encoding="utf-8")
        counts[attempt(image, mask)] += 1

    spoil()
    heard.write_text(json.dumps(counts), encoding="utf-8")


def attempt(image: Path, mask: Path) -> str:
    """Reads a spoilt input: "read", or the code that refused it.

    Raises:
        BrokenError: it took too long or too much memory, or was refused without a code of its own.
    """
    Path("/proc/self/clear_refs").write_text(
        "5", encoding="utf-8"
    )  # the high-water mark starts anew
    before, begun = _high_water_mib(), perf_counter()
    try:
        read_patient(image, mask, cohort=COHORT, selection=EVERYTHING)
        outcome = "read"
    except PatientError as error:
        if error.code is Code.UNEXPECTED:
            raise BrokenError("refused as unexpected") from error
        outcome = str(error.code)
    took, more = perf_counter() - begun, _high_water_mib() - before
    if took > MOST_S or more > MOST_MIB:
        raise BrokenError(f"{took:.1f} s, {more:.0f} MiB")
    return outcome


def _high_water_mib() -> float:
    line = next(
        line
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if line.startswith("VmHWM:")
    )
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    os.environ["PYTHONWARNINGS"] = "ignore"
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
