"""Another hospital's cohort, on which a finished study's models are tested."""

from pydantic import Field

from renal_ray.config.cohort import Cohort
from renal_ray.config.section import Section


class External(Section):
    """An external cohort: who is in it; everything else is the study's."""

    name: str = Field(
        min_length=1,
        max_length=64,
        pattern=r"^\w[\w.-]*$",
        description="name of the cohort, and of its folder under WORK/external",
    )
    cohort: Cohort = Field(
        description=(
            "where its patients come from; keys on how files are read, "
            "where omitted, are those of the study"
        )
    )
