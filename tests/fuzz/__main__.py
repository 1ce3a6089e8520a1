"""Mutated DICOM, SEG, RTSTRUCT and NIfTI inputs: each must be read, or refused with a code, within
seconds and a bounded memory.

    python tests/fuzz [--inputs 20000] [--workers 2] [--seed 0] [--failures runs/fuzz]

Hypothesis draws the mutations and shrinks what fails. Each worker is a process of its own, watched
from outside: a crash of native code or a hang ends that worker alone, and the input that it was on
is kept. Exit code 1 when anything failed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HANG_S = 20.0  # a worker that is silent for longer is ended; one that answers counts its own 5 s


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--failures", type=Path, default=Path("runs/fuzz"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        workers = [
            Worker(
                Path(temporary) / str(n), options.inputs // options.workers, options.seed * 1000 + n
            )
            for n in range(options.workers)
        ]
        while any(worker.running() for worker in workers):
            time.sleep(0.2)
        counts = sum((worker.counts for worker in workers), Counter[str]())
        failures = [failure for worker in workers for failure in worker.failures]
        for number, (what, folder) in enumerate(failures):
            kept = options.failures / f"failure-{options.seed}-{number}"
            shutil.rmtree(kept, ignore_errors=True)
            if folder.exists():  # none where the worker did not come to its first input
                shutil.copytree(folder, kept)
            print(f"{what}\nthe input is kept in {kept}")
    for outcome, count in counts.most_common():
        print(f"{count:7d} {outcome}")
    print(f"{sum(counts.values())} inputs, {len(failures)} failures")
    return (
        1
        if failures or sum(counts.values()) < options.inputs // options.workers * options.workers
        else 0
    )


class Worker:
    """A process that reads mutated inputs, and what came of them; it is started anew after a crash
    or a hang."""

    def __init__(self, folder: Path, inputs: int, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[tuple[str, Path]] = []
        self._folder, self._left, self._seed, self._round, self._ended = (
            folder,
            inputs,
            seed,
            0,
            False,
        )
        self._start()

    def _start(self) -> None:
        self._here = self._folder / str(self._round)
        self._here.mkdir(parents=True)
        command = [
            sys.executable,
            str(Path(__file__).with_name("worker.py")),
            str(self._here),
            str(self._left),
            str(self._seed + 100 * self._round),
        ]
        self._log = (self._here / "log.txt").open("w")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)
        self._begun = time.monotonic()

    def running(self) -> bool:
        """Looks after the process; False when all inputs are done, or nothing more is to be had."""
        self._ended = self._ended or not self._goes_on()
        return not self._ended

    def _goes_on(self) -> bool:
        code = self._process.poll()
        heard = self._here / "counts.json"
        silent = (
            time.time() - heard.stat().st_mtime
            if heard.exists()
            else (time.monotonic() - self._begun) / 3
        )
        if code is None and silent < HANG_S:
            return True
        if code is None:
            self._process.kill()
            self._process.wait()
        self._log.close()
        done = (
            Counter(json.loads(heard.read_text(encoding="utf-8")))
            if heard.exists()
            else Counter[str]()
        )
        self.counts += done
        self._left -= sum(done.values())
        if code == 0:
            return False
        what = "hang" if code is None else f"exit code {code}"
        self.failures.append(
            (
                f"{what}\n{(self._here / 'log.txt').read_text(encoding='utf-8')[-3000:]}",
                self._here / "current",
            )
        )
        self.counts["failed"] += 1
        self._left -= 1
        self._round += 1
        if self._left <= 0 or not done or len(self.failures) >= 10:
            return False
        self._start()
        return True


if __name__ == "__main__":
    sys.exit(main())
