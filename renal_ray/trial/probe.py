"""What one step of each kind of trial costs on this machine: WORK/probe.json, from which plans,
packing and remaining times follow."""

from pydantic import Field

from renal_ray.config import Section, Study
from renal_ray.store.place import Place
from renal_ray.types import FreezePoint, Head

NAME = "probe.json"


def kind_name(head: Head, freeze_point: FreezePoint) -> str:
    """Name of a kind of trial, which is what a worker compiles once: image-mixed6, fc, gru."""
    return f"{head}-{freeze_point}" if head is Head.IMAGE else str(head)


class KindCost(Section):
    """What a step of one kind of trial costs."""

    first_s: float = Field(description="seconds of the first step, compilation included")
    step_s: float = Field(description="median seconds of a later step")
    score_s: float = Field(description="median seconds of a batch that is only scored")
    batch: int = Field(
        description="samples in a step: slices for the image head, patients for fc and gru"
    )
    memory_mib: float = Field(description="memory of the process, resident")
    gpu_memory_mib: float | None = Field(
        None, description="peak memory on the card; null without one"
    )


class Probe(Section):
    """One machine's costs under one setting."""

    setting: dict[str, str | int] = Field(
        description=(
            "what the costs hold for: backend, precision, size, "
            "batch_size, threads, embedding, gru_units"
        )
    )
    device: str = Field(description="processor or card that computed")
    gpu_memory_mib: float | None = Field(None, description="memory of a whole card")
    matrix_gflops: dict[str, float] = Field(
        description=(
            "measured matrix product rate by precision, multiply and add "
            "counted apart, with a trial's threads"
        )
    )
    prefix_first_s: float = Field(
        description="seconds of the first batch through the frozen layers, compilation included"
    )
    prefix_s_per_image: float = Field(
        description="seconds an image through the frozen layers, all freeze points in one pass"
    )
    read_mib_s: float = Field(
        description="bandwidth of reading a file of the work directory that is not in memory"
    )
    kinds: dict[str, KindCost] = Field(description="by kind_name")


def setting(study: Study) -> dict[str, str | int]:
    """What the costs of a study's steps depend on."""
    return {
        "backend": study.backend,
        "precision": study.precision,
        "size": study.images.size,
        "batch_size": study.training.batch_size,
        "threads": max(1, int(study.resources.cpus_per_trial)),
        "gpu": int(study.resources.gpus_per_trial > 0),
        "embedding": study.training.embedding,
        "gru_units": study.training.gru_units,
    }


def read_probe(work: Place, study: Study) -> Probe | None:
    """The probe of a work directory, None where there is none for the study's setting."""
    if not work.exists(NAME):
        return None
    probe = Probe.model_validate(work.read_json(NAME))
    return probe if probe.setting == setting(study) else None


def write_probe(work: Place, probe: Probe) -> None:
    """Keeps a probe."""
    work.write_json(NAME, probe.model_dump(mode="json"))
