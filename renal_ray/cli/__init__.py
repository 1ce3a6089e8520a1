"""renal-ray on the command line: one function a command, heavy imports inside."""

from renal_ray.cli import apply, cohort, evidence, study
from renal_ray.cli.app import app

__all__ = ["app", "apply", "cohort", "evidence", "main", "study"]


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="renal-ray")
