"""How uncertain the report's numbers are said to be."""

from typing import Literal

from pydantic import Field

from renal_ray.config.section import Section


class Statistics(Section):
    """Intervals of the report; they change no trial."""

    bootstrap: int = Field(
        2000, ge=200, le=100_000, description="resamples of patients behind a bootstrap interval"
    )
    interval: Literal["bca", "percentile"] = Field(
        "bca",
        description="bias-corrected and accelerated bootstrap intervals, or plain percentiles",
    )
