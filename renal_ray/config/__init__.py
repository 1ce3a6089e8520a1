"""The study file: one validated object that every command works from."""

from renal_ray.config.cohort import PHASE_RULES, Cohort, Images, Phase, PhaseRule, Selection, Split
from renal_ray.config.explain import Explain
from renal_ray.config.external import External
from renal_ray.config.running import Resources, Tracking
from renal_ray.config.search import Screening, Search, Space, Span, Stopping, WholeSpan
from renal_ray.config.section import Section
from renal_ray.config.statistics import Statistics
from renal_ray.config.study import NAMED_WEIGHTS, PROVENANCE, Study
from renal_ray.config.training import (
    Augmentation,
    Controls,
    Epochs,
    Folds,
    Heads,
    Robustness,
    Threshold,
    Training,
)

__all__ = [
    "NAMED_WEIGHTS",
    "PHASE_RULES",
    "PROVENANCE",
    "Augmentation",
    "Cohort",
    "Controls",
    "Epochs",
    "Explain",
    "External",
    "Folds",
    "Heads",
    "Images",
    "Phase",
    "PhaseRule",
    "Resources",
    "Robustness",
    "Screening",
    "Search",
    "Section",
    "Selection",
    "Space",
    "Span",
    "Split",
    "Statistics",
    "Stopping",
    "Study",
    "Threshold",
    "Tracking",
    "Training",
    "WholeSpan",
]
