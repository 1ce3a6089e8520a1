"""Stands for NVIDIA's driver where there is none: first on PYTHONPATH, it answers as one with as
many cards as STUB_CARDS says."""

import os
from types import SimpleNamespace

NVML_DEVICE_MIG_ENABLE = 1


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818 - NVML's name
    pass


class NVMLError_NotFound(NVMLError):  # noqa: N801, N818 - NVML's name
    pass


def nvmlInit() -> None:  # noqa: N802 - NVML's name, as all below
    pass


nvmlShutdown = nvmlInit  # noqa: N816


def nvmlSystemGetDriverVersion() -> str:  # noqa: N802
    return "550.54.15"


def nvmlSystemGetCudaDriverVersion() -> int:  # noqa: N802
    return int(os.environ.get("STUB_CUDA", "12040"))


def nvmlDeviceGetCount() -> int:  # noqa: N802
    return int(os.environ.get("STUB_CARDS", "1"))


def nvmlDeviceGetHandleByIndex(number: int) -> int:  # noqa: N802
    return number


def nvmlDeviceGetUUID(number: int) -> str:  # noqa: N802
    return f"GPU-{number}"


def nvmlDeviceGetName(number: int) -> str:  # noqa: N802
    return "H100"


def nvmlDeviceGetMemoryInfo(number: int) -> SimpleNamespace:  # noqa: N802
    return SimpleNamespace(total=80 * 2**30, free=80 * 2**30)


def nvmlDeviceGetComputeRunningProcesses(number: int) -> list[SimpleNamespace]:  # noqa: N802
    return []


def nvmlDeviceGetMigMode(number: int) -> list[int]:  # noqa: N802
    raise NVMLError_NotSupported
