"""Where the image models look."""

from typing import Literal

from pydantic import Field

from renal_ray.config.section import Section


class Explain(Section):
    """Whose attention maps are made by `renal-ray explain`."""

    patients: int = Field(
        3,
        ge=0,
        description=(
            "validation patients of each kind (best, worst, most "
            "uncertain) whose maps are shown, for each dataset"
        ),
    )
    measure: Literal["all", "shown"] = Field(
        "all",
        description=(
            "validation patients whose share of attention inside the lesion is measured: "
            "all, or those shown; each is read from its files anew"
        ),
    )
