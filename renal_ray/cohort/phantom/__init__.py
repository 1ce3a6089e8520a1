"""Phantom patients: a synthetic cohort after Zhou et al. 2019, for trying the whole program without
anyone's images."""

from renal_ray.cohort.phantom.write import write_phantom

__all__ = ["write_phantom"]
