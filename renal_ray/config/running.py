"""What the machine lends, and where progress is written."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from renal_ray.config.section import Section


class Resources(Section):
    """What the machine lends to the study."""

    cpus: int | None = Field(None, ge=1, description="CPUs that a local Ray uses; all when omitted")
    cpus_per_trial: float = Field(
        1, gt=0, description="CPUs that one trial is promised, and threads it computes with"
    )
    gpus_per_trial: float = Field(
        0,
        ge=0,
        description=(
            "GPUs, or a share of one, that one trial is promised; a "
            "probe lowers it to what the trial needs"
        ),
    )
    allow_cpu: bool = Field(
        False,
        description=(
            "go on where a GPU is promised and the framework sees none, on "
            "the processor: for logical GPUs in tests"
        ),
    )
    trials_per_gpu: int = Field(
        4,
        ge=1,
        description="at most this many trials share a GPU where a probe has measured their memory",
    )
    trials_per_process: int = Field(
        100, ge=1, description="trials after which a worker's process is replaced"
    )
    process_mb: int = Field(
        12000,
        ge=1000,
        description="memory in MiB above which a worker's process is replaced between two trials",
    )
    checkpoint_minutes: float = Field(
        10,
        gt=0,
        description=(
            "a trial that lasts longer is written down this often, and continues from there"
        ),
    )
    trial_timeout: float = Field(
        120,
        gt=0,
        description=(
            "minutes without an epoch after which a trial's process "
            "is ended and the trial tried again"
        ),
    )
    attempts: int = Field(
        3,
        ge=1,
        description=(
            "how often a trial is tried whose process, node or disk was lost; "
            "one that raises by itself is not tried again"
        ),
    )
    object_store_mb: int = Field(256, ge=80, description="shared memory of a local Ray in MiB")


class Tracking(Section):
    """Where the progress of trials is written beside the work directory's own files."""

    tensorboard: bool = Field(False, description="write event files to WORK/tensorboard/<trial_id>")
    mlflow: str | None = Field(
        None,
        description=(
            "MLflow tracking URI: a parent run for each configuration, a child "
            "run for each fold; needs renal-ray[mlflow]"
        ),
    )

    @field_validator("mlflow")
    @classmethod
    def _no_secret(cls, uri: str | None) -> str | None:
        if uri is not None and urlsplit(uri).password:
            raise ValueError(
                "the address holds a password, and this file is kept and shown; give it as "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        return uri
