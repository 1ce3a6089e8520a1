"""One run at a time in a work directory."""

import json
import os
import platform
import subprocess
import sys

import pytest

from renal_ray.problems import StudyError
from renal_ray.store.lock import NAME, held
from renal_ray.store.place import Place


def test_a_second_run_is_refused_by_name_of_the_first(tmp_path):
    work = Place(str(tmp_path / "new"))
    with held(work):
        with pytest.raises(StudyError, match=f"in use by process {os.getpid()} on"), held(work):
            pass
        assert work.exists(NAME)
    assert not work.exists(NAME)


def test_the_lock_is_given_back_after_an_error(tmp_path):
    work = Place(str(tmp_path))
    with pytest.raises(KeyboardInterrupt), held(work):
        raise KeyboardInterrupt
    with held(work):
        pass


def test_a_dead_process_holds_nothing(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    work = Place(str(tmp_path))
    work.write_json(NAME, {"host": platform.node(), "pid": dead.pid, "since": "2026-01-01"})
    with held(work):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()


def test_a_run_on_another_machine_is_believed(tmp_path):
    work = Place(str(tmp_path))
    work.write_json(NAME, {"host": "elsewhere", "pid": 1, "since": "2026-01-01"})
    with pytest.raises(StudyError, match=r"on elsewhere since 2026-01-01; .* delete"), held(work):
        pass


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot be written"), held(Place(str(tmp_path / "file" / "work"))):
        pass
