"""A short run of the fuzzer; `make fuzz` makes 20,000 inputs."""

import subprocess
import sys
from pathlib import Path


def test_a_few_hundred_spoilt_inputs_are_read_or_refused_with_a_code(tmp_path):
    command = [sys.executable, str(Path(__file__).parent / "fuzz"), "--inputs", "400", "--workers", "1", "--seed", "7", "--failures", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "400 inputs, 0 failures" in done.stdout
