"""All files under cluster/: no secret in them, no dashboard open, one version, and pages that name
what exists."""

import re
from pathlib import Path

import pytest
from cluster_files import CLUSTER, IMAGE, KUBERAY, REPOSITORY, TEXT, clusters, documents


def test_every_yaml_file_is_yaml() -> None:
    files = [path for path in CLUSTER.rglob("*.y*ml") if "dashboards" not in path.parts]
    assert len(files) >= 7
    assert all(documents(path) for path in files)


def test_no_dashboard_is_open_to_the_world() -> None:
    for path in KUBERAY.glob("*.yaml"):
        kinds = {one["kind"] for one in documents(path)}
        assert not kinds & {"Ingress", "Service", "Secret", "HTTPRoute"}, path
    for spec in clusters().values():
        assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    for path in TEXT:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"NodePort|LoadBalancer|hostPort|0\.0\.0\.0", text), path
        for host in re.findall(r"--dashboard-host[= ](\S+)", text):
            assert host == "127.0.0.1", path


SECRETS = (
    r"AKIA[0-9A-Z]{16}",
    r"(?i)(secret_access_key|password|auth_token|api_key)['\"]?\s*[:=]\s*['\"]?[A-Za-z0-9+][A-Za-z0-9+/]{7,}",
    r"-----BEGIN",
    r"\b[0-9a-f]{32,}\b",
)


@pytest.mark.parametrize("path", TEXT, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_secret_stands_in_a_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [found.group() for pattern in SECRETS for found in re.finditer(pattern, text)] == []


def test_every_tag_that_is_named_is_that_of_the_lock() -> None:
    named = [
        (path, tag)
        for path in TEXT
        for tag in re.findall(
            r"renal-ray:(\d[\w.-]*?)-(?:cpu|gpu)\b", path.read_text(encoding="utf-8")
        )
    ]
    assert len({path for path, _ in named}) >= 4
    assert {f"renal-ray:{tag}" for _, tag in named} == {IMAGE}


@pytest.mark.parametrize(
    "path",
    [path for path in TEXT if path.suffix == ".md"],
    ids=lambda path: str(path.relative_to(REPOSITORY)),
)
def test_pages_name_files_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", text):
        assert (path.parent / link).exists() or link.startswith("dashboards"), link
    for named in re.findall(r"(?<![\w/])cluster/[\w./-]+\w(?![\w./-]|-?\$)", text):
        assert (REPOSITORY / named).exists(), named
