"""The real worker of a sweep over a process that trains nothing: for what is to be seen of
placement."""

from typing import Any

from renal_ray.sweep.worker import StudyWorker
from renal_ray.trial import process


class LightWorker(StudyWorker):
    """Starts `light_serve` under itself."""

    def setup(self, config: dict[str, Any], **given: Any) -> None:
        process.SERVER = "light_serve"
        super().setup(config, **given)
