"""The files for KubeRay: of the shape that Kubernetes and KubeRay take, and with nobody let in."""

import json
import shutil
import subprocess
from typing import Any, Literal

import pytest
import yaml
from cluster_files import (
    CLUSTER,
    IMAGE,
    KUBERNETES,
    LOCK,
    RAY_TEMPLATES,
    TEMPLATES,
    clusters,
    of_kind,
    only_container,
    validate,
    validate_pod,
)
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("kind", ["Namespace", "PersistentVolumeClaim", "NetworkPolicy"])
def test_kubernetes_objects_have_the_shape_that_kubernetes_takes(kind: str, version: str) -> None:
    validate(of_kind(kind), version)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", TEMPLATES)
def test_pods_have_the_shape_that_kubernetes_takes(name: str, version: str) -> None:
    validate_pod(TEMPLATES[name], version)


def test_a_misspelt_key_of_a_pod_is_noticed() -> None:
    kubernetes = pytest.importorskip(
        "kubernetes_validate", reason="no Kubernetes schemas here: pip install kubernetes-validate"
    )
    wrong = json.loads(
        json.dumps(TEMPLATES["RayJob gpu"]).replace(
            "readOnlyRootFilesystem", "readOnlyRootFileSystem"
        )
    )
    with pytest.raises(kubernetes.ValidationError):
        validate_pod(wrong, KUBERNETES[-1])


# KubeRay's objects: the fields of ray.io/v1 that are used here (KubeRay 1.7), and no other.


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class AuthOptions(Part):
    mode: Literal["token"]
    secret_name: str


class AutoscalerOptions(Part):
    version: Literal["v1", "v2"]
    upscaling_mode: Literal["Default", "Conservative", "Aggressive"]
    idle_timeout_seconds: int = Field(gt=0)
    resources: dict[str, Any]
    security_context: dict[str, Any]
    volume_mounts: list[dict[str, Any]]


class Group(Part):
    ray_start_params: dict[str, str]
    template: dict[str, Any]


class HeadGroup(Group):
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"]


class WorkerGroup(Group):
    group_name: str
    replicas: int
    min_replicas: int
    max_replicas: int


class ClusterSpec(Part):
    ray_version: str
    auth_options: AuthOptions
    enable_in_tree_autoscaling: bool
    autoscaler_options: AutoscalerOptions
    head_group_spec: HeadGroup
    worker_group_specs: list[WorkerGroup]


class JobSpec(Part):
    entrypoint: str
    backoff_limit: int
    shutdown_after_job_finishes: bool
    ttl_seconds_after_finished: int
    submission_mode: Literal["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]
    submitter_pod_template: dict[str, Any]
    ray_cluster_spec: ClusterSpec


class Metadata(Part):
    name: str
    namespace: Literal["renal-ray"]


class RayCluster(Part):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: ClusterSpec


class RayJob(Part):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: JobSpec


def test_rayclusters_and_rayjobs_have_the_shape_that_kuberay_takes() -> None:
    RayCluster.model_validate(of_kind("RayCluster"))
    job = RayJob.model_validate(of_kind("RayJob")).spec
    assert job.entrypoint == "renal-ray run /study/study.yaml --address auto"
    assert job.backoff_limit > 0, "a lost head would be the end of the sweep"
    assert job.shutdown_after_job_finishes


def test_the_job_runs_on_the_same_cluster_as_people_do() -> None:
    cluster, job = clusters().values()
    assert cluster == job


def test_the_autoscaler_is_on_and_the_head_has_no_gpu() -> None:
    for spec in clusters().values():
        assert spec["enableInTreeAutoscaling"] is True
        head, (gpu,) = spec["headGroupSpec"], spec["workerGroupSpecs"]
        assert "gpu" not in json.dumps(head)
        assert head["rayStartParams"]["num-cpus"] == "0", "trials would run on the head"
        assert only_container(gpu["template"])["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert 1 <= gpu["minReplicas"] <= gpu["replicas"] < gpu["maxReplicas"], (
            "without one node the check before any work has none to check"
        )


@pytest.mark.parametrize("name", TEMPLATES)
def test_pods_run_as_a_plain_user_and_cannot_become_another(name: str) -> None:
    pod, container = TEMPLATES[name]["spec"], only_container(TEMPLATES[name])
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    contexts = [
        container["securityContext"],
        *(spec["autoscalerOptions"]["securityContext"] for spec in clusters().values()),
    ]
    for context in contexts:
        assert context == {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("name", TEMPLATES)
def test_pods_write_to_their_volumes_only_and_every_mount_has_its_volume(name: str) -> None:
    pod, container = TEMPLATES[name]["spec"], only_container(TEMPLATES[name])
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert {"/tmp", "/home/renal"} <= mounts.keys(), "Ray, Keras and Matplotlib write there"
    assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}
    assert not any("hostPath" in volume for volume in pod["volumes"])
    for volume in pod["volumes"]:
        assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"]
    if name != "submitter":
        assert mounts["/studies"] == "work"
        assert {
            "name": "work",
            "persistentVolumeClaim": {
                "claimName": of_kind("PersistentVolumeClaim")["metadata"]["name"]
            },
        } in pod["volumes"]
        assert mounts["/dev/shm"] == "shm"


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_token_comes_from_a_secret_and_no_other_secret_is_named(name: str) -> None:
    env = {one["name"]: one for one in only_container(TEMPLATES[name])["env"]}
    assert env["RAY_AUTH_MODE"]["value"] == "token"
    assert env["RAY_AUTH_TOKEN"] == {
        "name": "RAY_AUTH_TOKEN",
        "valueFrom": {"secretKeyRef": {"name": "renal-ray-token", "key": "auth_token"}},
    }
    assert env.keys() == {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}
    for spec in clusters().values():
        assert spec["authOptions"] == {"mode": "token", "secretName": "renal-ray-token"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_container_has_requests_and_limits(name: str) -> None:
    everyone = [
        only_container(TEMPLATES[name])["resources"],
        *(spec["autoscalerOptions"]["resources"] for spec in clusters().values()),
    ]
    for resources in everyone:
        assert {"cpu", "memory"} <= resources["requests"].keys()
        assert {"cpu", "memory"} <= resources["limits"].keys()


@pytest.mark.parametrize("name", RAY_TEMPLATES)
def test_ray_answers_for_its_health_where_it_asks_for_no_token(name: str) -> None:
    from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT
    from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS

    for probe in ("readinessProbe", "livenessProbe"):
        asked = only_container(RAY_TEMPLATES[name])[probe]["httpGet"]
        assert asked["path"] in PUBLIC_EXACT_PATHS
        assert asked["port"] == DEFAULT_DASHBOARD_AGENT_LISTEN_PORT


def test_only_pods_of_the_cluster_and_the_operator_reach_ray() -> None:
    label = {"app.kubernetes.io/part-of": "renal-ray"}
    assert [name for name, one in TEMPLATES.items() if one["metadata"]["labels"] != label] == []
    policy = of_kind("NetworkPolicy")["spec"]
    assert policy["podSelector"] == {"matchLabels": label}
    assert policy["policyTypes"] == ["Ingress"]
    among, operator = policy["ingress"]
    assert among == {"from": [{"podSelector": {"matchLabels": label}}]}
    assert len(operator["from"]) == 1, "namespace and pod in one entry: both must fit"
    assert operator["from"][0].keys() == {"namespaceSelector", "podSelector"}
    assert operator["ports"] == [{"port": 8265}]


def test_the_namespace_admits_restricted_pods_only() -> None:
    labels = of_kind("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_images_and_ray_version_are_those_of_the_lock() -> None:
    for spec in clusters().values():
        assert spec["rayVersion"] == LOCK["ray"]
    for name, template in TEMPLATES.items():
        assert (
            only_container(template)["image"]
            == f"{IMAGE}-{'gpu' if name.endswith('gpu') else 'cpu'}"
        )


def test_the_overlay_for_kind_makes_a_cluster_without_gpu() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here")
    done = subprocess.run(
        ["kubectl", "kustomize", CLUSTER / "kind"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    made = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    assert made.keys() == {"Namespace", "PersistentVolumeClaim", "NetworkPolicy", "RayCluster"}
    spec = RayCluster.model_validate(made["RayCluster"]).spec
    (worker,) = spec.worker_group_specs
    assert "nvidia.com/gpu" not in only_container(worker.template)["resources"]["limits"]
    for template in (spec.head_group_spec.template, worker.template):
        assert only_container(template)["image"] == f"{IMAGE}-cpu"
        validate_pod(template, KUBERNETES[-1])
    assert made["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteOnce"]
