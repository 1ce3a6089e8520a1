"""What the tests of the files under cluster/ share: the files, read once, and the versions of the
lock."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from renal_ray import __version__

REPOSITORY = Path(__file__).resolve().parent.parent
CLUSTER = REPOSITORY / "cluster"
KUBERAY = CLUSTER / "kuberay"
TEXT = [
    path
    for path in (*CLUSTER.rglob("*"), REPOSITORY / "SECURITY.md")
    if path.is_file() and path.suffix not in (".lock", ".png")
]
KUBERNETES = (
    "1.28",
    "1.37",
)  # the oldest that README.md names, and the newest that there are schemas for
LOCK = dict(
    re.findall(
        r"^([\w.-]+)==([^ ]+)(?= \\$)",
        (REPOSITORY / "requirements.lock").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
)
IMAGE = f"renal-ray:{__version__}-ray{LOCK['ray']}"


@cache
def documents(path: Path) -> list[dict[str, Any]]:
    """All objects of a YAML file."""
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one is not None]


def of_kind(kind: str) -> dict[str, Any]:
    """The one object of a kind under kuberay/."""
    (found,) = [
        one for path in KUBERAY.glob("*.yaml") for one in documents(path) if one["kind"] == kind
    ]
    return found


def clusters() -> dict[str, dict[str, Any]]:
    """The two descriptions of a Ray cluster."""
    return {
        "RayCluster": of_kind("RayCluster")["spec"],
        "RayJob": of_kind("RayJob")["spec"]["rayClusterSpec"],
    }


def templates() -> dict[str, dict[str, Any]]:
    """Every pod template, by where it stands."""
    found = {"submitter": of_kind("RayJob")["spec"]["submitterPodTemplate"]}
    for name, spec in clusters().items():
        found[f"{name} head"] = spec["headGroupSpec"]["template"]
        found |= {
            f"{name} {group['groupName']}": group["template"] for group in spec["workerGroupSpecs"]
        }
    return found


TEMPLATES = templates()
RAY_TEMPLATES = {name: one for name, one in TEMPLATES.items() if name != "submitter"}


def only_container(template: dict[str, Any]) -> dict[str, Any]:
    """The container of a pod that has one."""
    (container,) = template["spec"]["containers"]
    return container


def validate(resource: dict[str, Any], version: str) -> None:
    """Checks an object of Kubernetes against Kubernetes' own schemas; unknown keys are refused."""
    kubernetes = pytest.importorskip(
        "kubernetes_validate", reason="no Kubernetes schemas here: pip install kubernetes-validate"
    )
    kubernetes.validate(resource, version, strict=True)


def validate_pod(template: dict[str, Any], version: str) -> None:
    """The same for a pod template, which KubeRay's objects have inside."""
    validate(
        {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": {"name": "x"},
            "template": template,
        },
        version,
    )
