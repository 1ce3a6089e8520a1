"""One run at a time in a work directory."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from renal_ray.problems import StudyError
from renal_ray.store import lock
from renal_ray.store.lock import DEAD_S, NAME, held, is_held
from renal_ray.store.place import Place


def holder(*, host="elsewhere", kernel=None, pid=1, after_boot_s=0.0, seen_s_ago=0.0):
    seen = datetime.now(UTC) - timedelta(seconds=seen_s_ago)
    kernel = lock._kernel() if kernel is None else kernel
    return {
        "token": "0" * 32,
        "host": host,
        "kernel": kernel,
        "pid": pid,
        "after_boot_s": after_boot_s,
        "since": "2026-01-01T00:00:00+00:00",
        "seen": seen.isoformat(),
    }


def wait_until(true, seconds=20.0):
    end = monotonic() + seconds
    while not true() and monotonic() < end:
        sleep(0.02)


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
    work.write_json(NAME, holder(host=platform.node(), pid=dead.pid))
    with held(work):
        assert json.loads((tmp_path / NAME).read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_another_process_with_the_number_of_a_dead_one_holds_nothing(tmp_path):
    """Nor does a thread, whose number the system takes for a process's in some of its calls."""
    work = Place(str(tmp_path))
    began = lock.this_process()["after_boot_s"]
    for pid, after_boot_s in ((os.getpid(), began - 100), (_a_thread(), began)):
        work.write_json(NAME, holder(host=platform.node(), pid=pid, after_boot_s=after_boot_s))
        assert not is_held(work)
    work.write_json(NAME, holder(host=platform.node(), pid=os.getpid(), after_boot_s=began))
    assert is_held(work)


def test_a_clock_that_is_set_meanwhile_kills_nobody(monkeypatch):
    mine, booted = lock.this_process(), psutil.boot_time()
    for step in (-3600, 1, 86400):
        monkeypatch.setattr("psutil.boot_time", lambda step=step: booted + step)
        monkeypatch.setattr("psutil._psplatform.boot_time", lambda step=step: booted + step)
        assert lock.is_alive(mine) is True


def test_where_linux_does_not_say_which_container_this_is_nobody_is_dead(monkeypatch):
    monkeypatch.setattr(lock, "_kernel", lambda: None)
    assert lock.is_alive(lock.this_process() | {"pid": 2**22}) is None
    monkeypatch.undo()
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(lock, "Path", lambda name: Path("/nowhere") / name.lstrip("/"))
    assert lock._kernel() is None


def _a_thread():
    """The number of a thread of this process, which goes on for a while."""
    threading.Thread(target=sleep, args=(20,), daemon=True).start()
    return next(thread.id for thread in psutil.Process().threads() if thread.id != os.getpid())


def test_a_run_on_another_machine_is_believed_while_it_renews_its_lock(tmp_path):
    work = Place(str(tmp_path))
    work.write_json(NAME, holder())
    assert is_held(work)
    with (
        pytest.raises(
            StudyError,
            match=(
                r"process 1 on elsewhere since "
                r"2026-01-01T00:00:00\+00:00, last seen .*; .* delete"
            ),
        ),
        held(work),
    ):
        pass
    assert work.read_json(NAME)["host"] == "elsewhere"
    work.write_json(NAME, holder(seen_s_ago=DEAD_S + 60))
    assert not is_held(work)
    with held(work):
        assert work.read_json(NAME)["pid"] == os.getpid()


@pytest.mark.parametrize(
    "kernel",
    [["another boot", "pid:[1]"], [], None],
    ids=["container", "no Linux", "written by an earlier version"],
)
def test_a_process_that_cannot_be_seen_from_here_is_believed_while_it_renews_its_lock(
    tmp_path, kernel
):
    """Containers share a host's name; in each of them another process has the number."""
    work = Place(str(tmp_path))
    for seen_s_ago, lives in ((0, True), (DEAD_S - 60, True), (DEAD_S + 60, False)):
        found = holder(
            host=platform.node(), kernel=kernel or [], pid=os.getpid(), seen_s_ago=seen_s_ago
        )
        if kernel is None:
            del found["kernel"]
        work.write_json(NAME, found)
        assert is_held(work) is lives


IN_A_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")
HOLD = """
import sys, time
from renal_ray.store.lock import held
from renal_ray.store.place import Place
with held(Place(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_drivers_in_two_containers_of_one_host_name_do_not_share_a_directory(tmp_path):
    if subprocess.run([*IN_A_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespace of process numbers can be made: not root, or no util-linux")
    hold = [*IN_A_NAMESPACE, sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as first:
        assert first.stdout.readline() == "held\n"
        second = subprocess.run(
            hold,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        assert (second.returncode, second.stdout) == (1, "")
        assert "StudyError: work: " in second.stderr
        assert f"on {platform.node()} since" in second.stderr
        first.stdin.close()
        assert first.wait(timeout=60) == 0
    third = subprocess.run(
        hold,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert (third.returncode, third.stdout) == (0, "held\n")


def test_a_lock_is_renewed_and_a_run_that_lost_it_stops(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored where the tests run in the background
    work = Place(str(tmp_path))
    with pytest.raises(KeyboardInterrupt), held(work):  # noqa: PT012 - the interrupt may come at any line
        token = work.read_json(NAME)["token"]
        work.write_json(NAME, holder() | {"token": token})
        wait_until(lambda: work.read_json(NAME)["host"] == platform.node())
        work.write_json(NAME, holder())
        wait_until(lambda: False)
    signal.signal(signal.SIGINT, before)
    assert work.read_json(NAME)["host"] == "elsewhere"  # not given back by who had lost it
    assert "taken over by another run" in capsys.readouterr().err


def test_of_many_runs_that_begin_at_once_one_goes_on(tmp_path):
    """Processes, because a lock file of a process's own threads would tell nothing."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    Place(str(tmp_path)).write_json(
        NAME, holder(host=platform.node(), pid=dead.pid)
    )  # all of them want to take it over
    script = (
        "import sys, time\nfrom renal_ray.problems import StudyError\nfrom "
        "renal_ray.store.lock import held\nfrom renal_ray.store.place import Place\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n  with held(Place(sys.argv[1])): print('held', flush=True); "
        "sys.stdin.readline()\nexcept StudyError: print('refused', flush=True)\n"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            bufsize=1,
        )
        for _ in range(6)
    ]
    for run in runs:
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        run.stdin.write("\n")
    said = [run.stdout.readline().strip() for run in runs]
    for run in runs:
        run.communicate("\n")
    assert sorted(said) == ["held", *["refused"] * 5]


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with (
        pytest.raises(StudyError, match="cannot be written"),
        held(Place(str(tmp_path / "file" / "work"))),
    ):
        pass
