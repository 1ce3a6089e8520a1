"""Whether the framework of this process sees the card that was promised, and what a person is told
where it does not."""

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from pydantic import Field

from renal_ray.config import Section, Study
from renal_ray.model.nvidia import Card, Driver, card, driver
from renal_ray.problems import StudyError
from renal_ray.trial.workshop import configure_keras

EXTRA = {"tensorflow": "gpu", "jax": "gpu-jax"}  # of renal-ray: what brings CUDA's libraries
BRINGS = {
    "tensorflow": ("tensorflow", "and-cuda"),
    "jax": ("jax-cuda12-plugin", "with-cuda"),
}  # the distribution and its extra that name them
RUNTIME = "nvidia-cuda-runtime-cu12"  # whose version is CUDA's
OLDEST_CUDA, OLDEST_DRIVER = (12, 0), "525"  # what those libraries need
TOO_OLD = re.compile(
    r"driver version is insufficient|driver.{0,20}(is )?too old|forward compatibility",
    re.IGNORECASE,
)
ABOUT_CARDS = re.compile(r"cuda|gpu|cudnn|nvidia|dlopen|dynamic library", re.IGNORECASE)
PREFIX = re.compile(
    r"^(?:\S+ [\d:.]+: )?(?P<level>[IWEF])(?:\d{4} [\d:.]+ +\d+)? [\w./-]+:\d+\] "
)  # time, process and line of the source
MOST_SAID = 600  # characters


class Seen(Section):
    """What a framework sees of the cards.

    Args:
        cards: name and memory of each.
        fault: where it sees none: the versions, what helps, and what the framework said.
    """

    cards: list[str] = Field([], description="name and memory of each card")
    fault: str = Field("", description="where there is none: why, and what helps")


def settle(study: Study) -> None:
    """Settles framework and threads for a task that is promised what the study file promises a
    trial, and asks for its card.

    Raises:
        StudyError: a card is promised and the framework sees none, see `require_card`.
    """
    promised = study.resources.gpus_per_trial > 0
    configure_keras(study.backend, int(study.resources.cpus_per_trial), on_card=promised)
    if promised:
        require_card(study.backend, allow_cpu=study.resources.allow_cpu)


def require_card(backend: str, *, allow_cpu: bool) -> bool:
    """Asks this process's framework for the card that it was promised; after `configure_keras`.

    Args:
        backend: tensorflow or jax.
        allow_cpu: whether to go on without one.

    Returns:
        Whether there is one.

    Raises:
        StudyError: there is none.
    """
    seen = look(backend)
    if seen.fault and not allow_cpu:
        raise StudyError(seen.fault)
    return not seen.fault


@cache  # a framework looks once in a process's life
def look(backend: str) -> Seen:
    """Imports the framework, if need be, and asks it for its cards.

    Args:
        backend: tensorflow or jax, as `configure_keras` was told.
    """
    said: list[str] = []
    found: list[Card] = []
    with _listening(said):
        from renal_ray.model.device import devices

        try:
            found = devices()
        except RuntimeError as error:  # JAX, where JAX_PLATFORMS asks for what is not there
            said.append(f"{error}\n")
    if found:
        return Seen(
            cards=[
                f"{one.name}, {one.memory_mib / 1024:.0f} GiB" if one.memory_mib else one.name
                for one in found
            ]
        )
    return Seen(fault=_fault(backend, driver(), "; ".join(_about_cards("".join(said)))))


@contextmanager
def _listening(said: list[str]) -> Iterator[None]:
    """Keeps what is written on standard error, by compiled code too, and what JAX writes into its
    log alone."""
    logger = logging.getLogger("jax._src.xla_bridge")
    level = logger.level
    with tempfile.TemporaryFile() as heard:
        handler = logging.StreamHandler(os.fdopen(os.dup(heard.fileno()), "w"))
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(heard.fileno(), 2)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False
        try:
            yield
        finally:
            logger.propagate = True
            logger.removeHandler(handler)
            handler.stream.close()
            logger.setLevel(level)
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            heard.seek(0)
            said.append(heard.read().decode(errors="replace"))


def _about_cards(said: str) -> list[str]:
    """The lines about cards and each warning, once, without time and place."""
    found: dict[str, None] = {}
    for line in said.splitlines():
        prefix = PREFIX.match(line)
        text = (line[prefix.end() :] if prefix else line).strip()
        loud = prefix is not None and prefix["level"] != "I"
        if (loud or ABOUT_CARDS.search(text)) and "'tpu'" not in text:
            found[text] = None
    return list(found)


def _fault(backend: str, here: Driver | None, said: str) -> str:
    lacking = _lacking(backend)
    told = (
        f"{backend} sees no card where one is promised "
        f"({_versions(backend, here, lacking)}): "
        f"{_remedy(backend, here, lacking, said)}"
    )
    told += ", or let trials compute on the processor with resources.allow_cpu: true"
    return (
        f"{told}; {backend} said: {said[:MOST_SAID]}"
        if said
        else f"{told}; {backend} said nothing of it"
    )


def _versions(backend: str, here: Driver | None, lacking: list[str]) -> str:
    runs = (
        f"NVIDIA's driver {here.version} runs CUDA up to {here.cuda[0]}.{here.cuda[1]}"
        if here
        else "no driver of NVIDIA's answers"
    )
    lacks = (
        (
            ", "
            f"{lacking[0]}{f' and {len(lacking) - 1} more' if len(lacking) > 1 else ''} "
            "missing or too old"
        )
        if lacking
        else ""
    )
    return f"{runs}; CUDA's libraries: {_installed(RUNTIME) or 'none installed'}{lacks}"


def _remedy(backend: str, here: Driver | None, lacking: list[str], said: str) -> str:
    if here is None:
        return "install NVIDIA's driver there, or start Ray there with --num-gpus=0"
    if here.cuda < OLDEST_CUDA or TOO_OLD.search(said):
        return f"update NVIDIA's driver there, to {OLDEST_DRIVER} at least"
    if lacking:
        return f"run `pip install 'renal-ray[{EXTRA[backend]}]'` on every node"
    if card() is None:
        return (
            f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')} names none of "
            f"its {here.cards} cards: start Ray there with those that it has"
        )
    return "see that `nvidia-smi` works there, and that LD_LIBRARY_PATH names no other CUDA"


def _lacking(backend: str) -> list[str]:
    """CUDA's libraries that the framework asks for and that are not installed, or not in the right
    version."""
    name, extra = BRINGS[backend]
    try:
        asked = [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:
        return [name]
    wanted = [
        one
        for one in asked
        if one.marker
        and one.marker.evaluate({"extra": extra})
        and not one.marker.evaluate({"extra": ""})
    ]
    return [
        one.name
        for one in wanted
        if (found := _installed(one.name)) is None or not one.specifier.contains(found)
    ]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
