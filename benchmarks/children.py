"""Processes that measure, see stepping.py: started once, then asked in turn, so that what is
compared is interleaved."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import time
from typing import Any

SCRIPT = Path(__file__).with_name("stepping.py")


class Child:
    """One process.

    Args:
        asked: what it measures.
        backend: tensorflow or jax.
        threads: that an operation computes with; the framework's own choice when omitted.
        gpu_share: share of a card's memory.
        compiled: folder where JAX keeps what it compiled.
    """

    def __init__(
        self,
        asked: dict[str, Any],
        *,
        backend: str = "tensorflow",
        threads: int | None = None,
        gpu_share: float = 0.9,
        compiled: str | None = None,
    ) -> None:
        self._begun = time()
        self.name = " ".join(
            str(asked[key]) for key in ("way", "freeze", "precision") if key in asked
        )
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - lives as long as the process; a pipe that nobody reads would fill up
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            encoding="utf-8",
            env=os.environ
            | _environment(backend, threads, gpu_share)
            | ({"JAX_COMPILATION_CACHE_DIR": compiled} if compiled else {}),
        )

    def hear(self) -> dict[str, Any]:
        """Waits for its next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._said.seek(0)
            raise SystemExit(f"{self.name} ended with code {code}: {self._said.read()[-3000:]}")
        told: dict[str, Any] = json.loads(line)
        return told

    def started(self) -> float:
        """Waits until the framework is imported; seconds that this took since the process was
        started."""
        return float(self.hear()["at"]) - self._begun

    def ask(self) -> None:
        """Lets it measure a round."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait()


def _environment(backend: str, threads: int | None, gpu_share: float) -> dict[str, str]:
    found = {
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{gpu_share:.3f}",
        "PYTHONPATH": os.pathsep.join(
            [str(SCRIPT.parent.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        ),
    }
    if threads is not None:  # as renal_ray.trial.workshop.configure_keras sets them
        found |= {
            name: str(threads) for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC")
        } | {"TF_NUM_INTEROP_THREADS": "1"}
    return found


class Group:
    """Equal processes that measure at the same time. They start at once; `ready` waits until
    everything is compiled.

    Args:
        asked: what each measures.
        count: how many.
        options: of each `Child`.
    """

    def __init__(self, asked: dict[str, Any], *, count: int = 1, **options: Any) -> None:
        self.asked = asked
        self.children = [Child(asked, gpu_share=0.9 / count, **options) for _ in range(count)]
        self.start_s = 0.0
        self.rounds: list[float] = []
        self.told: dict[str, Any] = {}

    def ready(self) -> "Group":
        """Waits for every process."""
        self.start_s = max(child.started() for child in self.children)
        if self.asked["way"] != "matrix":
            first = [child.hear() for child in self.children]
            self.told = {
                key: max(one[key] for one in first) for key in ("first_s", "steps", "memory_mib")
            }
        return self

    def round(self) -> None:
        """Measures once: seconds an image of all processes together, or the sum of their matrix
        rates."""
        for child in self.children:
            child.ask()
        told = [child.hear() for child in self.children]
        if "gflops" in told[0]:
            self.rounds.append(sum(one["gflops"] for one in told))
            return
        self.rounds.append(1 / sum(1 / one["s_per_image"] for one in told))
        self.told["gpu_memory_mib"] = told[0]["gpu_memory_mib"]

    def close(self) -> None:
        """Ends the processes."""
        for child in self.children:
            child.close()
