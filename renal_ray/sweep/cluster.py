"""Ray, started quietly on this machine or joined where it already runs."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from renal_ray.config import Resources
from renal_ray.problems import StudyError, disk_trouble, reason
from renal_ray.sweep.sessions import mark_session, ray_folder, remove_sessions_of_the_dead
from renal_ray.sweep.watch import watched

CLIENT = "ray://"
OLDEST_RAY = (2, 52)  # the first that knows token authentication
AUTH_MODE = "RAY_AUTH_MODE"  # token or disabled
Result = TypeVar("Result")

# Read by Ray and Tune when they are imported or started.
QUIET = {
    "RAY_DEDUP_LOGS": "1",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # who was promised no GPU sees none
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Tune's own state of the experiment, a growing text of every trial, serves nobody: the ledger
    # is the state.
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    # Ctrl-C is ours: it must reach the command as KeyboardInterrupt.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "10",
}


@contextmanager
def study_errors() -> Iterator[None]:
    """Lets a StudyError that a worker raised come out as itself, and a disk's trouble as one: one
    sentence instead of a remote traceback."""
    try:
        yield
    except Exception as error:
        for cause in _causes(error):
            if isinstance(cause, StudyError) and type(cause).__module__ == StudyError.__module__:
                raise cause from None
            if trouble := disk_trouble(cause):
                raise StudyError(trouble) from None
        raise


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, what Ray says that it was in its task, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = getattr(cause, "cause", None) or cause.__cause__


@contextmanager
def cluster(
    resources: Resources, address: str | None = None, *, dashboard: bool = False
) -> Iterator[None]:
    """Joins a Ray cluster or starts one on this machine; leaves it, and ends what it started, at
    the end.

    Args:
        resources: what a local Ray may use.
        address: of a running cluster (auto, ray://host:port); None starts a local one.
        dashboard: whether to say where Ray's dashboard is; a local Ray has one only then, on this
            machine's loopback.

    Raises:
        StudyError: there is no cluster at the address, or none can be started here.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():  # one command inside another, as in `run`
        yield
        return
    _require_version(ray.__version__)
    handler = signal.getsignal(signal.SIGTERM)
    context = _started(resources, dashboard=dashboard) if address is None else _joined(address)
    if threading.current_thread() is threading.main_thread():
        signal.signal(
            signal.SIGTERM, handler
        )  # Ray has put its own in its place, which ends the program without a word
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # after the import, which sets it
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        if dashboard:
            print(_where(context.dashboard_url), flush=True)
        with watched(
            None if ray.util.client.ray.is_connected() else ray.get_runtime_context().gcs_address
        ):
            yield
    finally:
        ray.shutdown()


def _require_version(version: str) -> None:
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_RAY:
        oldest = ".".join(map(str, OLDEST_RAY))
        raise StudyError(
            f"Ray {version} is installed, which knows no token authentication; "
            f"install Ray {oldest} or later, the same on every node"
        )


def _joined(address: str) -> Any:
    import ray

    # Versions of Ray have other defaults: `ray start --head` takes a token that it finds. A token
    # at hand tells nothing of a cluster elsewhere, and a driver with one cannot work on a cluster
    # without.
    _say_mode("token" if address == "auto" and _has_token() else "disabled")
    try:
        return ray.init(
            address=address, logging_level=logging.ERROR, log_to_driver=address.startswith(CLIENT)
        )  # see `where_ray_is`
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise StudyError(
            f"--address {address}: no Ray cluster answers there "
            f"({' '.join(str(error).split())}); start one with `ray start --head` or leave "
            "--address out; "
            "one with token authentication answers only to its token: RAY_AUTH_MODE=token, "
            "and RAY_AUTH_TOKEN or ~/.ray/auth_token as on its head"
        ) from None


def _say_mode(mode: str) -> None:
    """Tells Ray how to authenticate, where nobody has: this process, which read its environment
    when it imported Ray, and those that it starts."""
    if AUTH_MODE in os.environ:
        return
    from ray._raylet import Config  # type: ignore[attr-defined]  # not in its stubs; as Ray itself does when it turns tokens on

    os.environ[AUTH_MODE] = mode
    Config.initialize("")


def _has_token() -> bool:
    """Whether there is a token where Ray looks for one."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or Path(path).is_file()


def _started(resources: Resources, *, dashboard: bool) -> Any:
    """A Ray of this machine's own. Whatever Ray raises when it cannot start - it has no type for
    that - becomes one sentence with the remedy."""
    import ray

    remove_sessions_of_the_dead()
    _say_mode("token")  # whatever the default of this version of Ray is; Ray makes the token
    try:
        context = ray.init(
            # Without it Ray joins whatever it finds in RAY_ADDRESS or started on this machine.
            address="local",
            num_cpus=resources.cpus,
            object_store_memory=resources.object_store_mb * 2**20,
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except Exception as error:  # noqa: BLE001 - Ray raises Exception itself where a node is slow
        raise StudyError(
            f"Ray cannot be started on this machine ({reason(error)}); {_remedy(error)}"
        ) from None
    mark_session(Path(context.address_info["session_dir"]))
    return context


def _remedy(error: Exception) -> str:
    if "AF_UNIX" in str(error):
        length = len(str(ray_folder().parent))
        return (
            f"the temporary directory's name, {length} characters, is too long for a "
            "socket in it: set TMPDIR to a shorter one, as in TMPDIR=/tmp"
        )
    if isinstance(error, OSError):
        return (
            "it keeps its token in HOME and its files in TMPDIR: set both to "
            "folders that can be written, with room on their disk"
        )
    if isinstance(error, ValueError):
        return "resources.cpus and resources.object_store_mb have to fit this machine"
    return (
        f"its logs are in {ray_folder()}/session_latest/logs; a busy machine starts it "
        "too slowly: type the command again when it is less so"
    )


def _where(url: str | None) -> str:
    if not url:
        return (
            "dashboard: this cluster has none; `ray start --head` starts one unless told "
            "otherwise, and Ray must be installed as ray[default]"
        )
    token = (
        "; it asks for the token that `ray get-auth-token` prints"
        if os.environ.get(AUTH_MODE) == "token"
        else ""
    )
    return f"dashboard: http://{url}{token}"


def where_ray_is(step: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Runs a step of a study in this process, or, where it came by ray://, in one on the cluster's
    side of that connection.

    Tune and Ray Data would otherwise run half here and half there, over a connection that may
    break. What the step prints comes back.

    Args:
        step: a function of a study.
        args: its arguments.
        kwargs: its keyword arguments.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if not ray.util.client.ray.is_connected():
        return step(*args, **kwargs)
    there = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(_quietly)
    with study_errors():
        result: Result = ray.get(task.remote(step, args, kwargs))
    return result


def _quietly(step: Callable[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    return step(*args, **kwargs)
