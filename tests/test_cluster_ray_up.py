"""The files for `ray up`, and every option that Ray is started with."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jsonschema
import pytest
from cluster_files import CLUSTER, LOCK, REPOSITORY, clusters, documents


@cache
def start_options() -> set[str]:
    """What `ray start --help` says; asked in a process of its own, because the command imports all
    of Ray."""
    done = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--help"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return set(re.findall(r"(?<= )--[\w-]+", done.stdout))


def ray_starts() -> Iterator[tuple[str, list[str]]]:
    """Every `ray start` of the ray-up files, and its options."""
    for path in sorted((CLUSTER / "ray-up").glob("*.yaml")):
        for key in ("head_start_ray_commands", "worker_start_ray_commands"):
            (command,) = [one for one in documents(path)[0][key] if "ray start" in one]
            yield (
                f"{path.name} {key}",
                re.findall(r"(?<= )--[\w-]+", command.partition("ray start")[2]),
            )
            assert "RAY_AUTH_MODE=token" in command.partition("ray start")[0].split(), path


def test_ray_start_knows_the_options_that_it_is_given() -> None:
    for where, options in ray_starts():
        assert set(options) <= start_options(), where
    for name, spec in clusters().items():
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            assert {f"--{key}" for key in group["rayStartParams"]} <= start_options(), name
    script = (CLUSTER / "slurm" / "sweep.sbatch").read_text(encoding="utf-8")
    arrays = "".join(re.findall(r"(?:node|head)_options=\((.*?)\n\)", script, re.DOTALL))
    assert {"--head", "--temp-dir"} <= set(re.findall(r"--[\w-]+", arrays))
    assert set(re.findall(r"--[\w-]+", arrays)) <= start_options()


@pytest.mark.parametrize("name", ["aws.yaml", "on-premise.yaml"])
def test_ray_up_takes_the_file(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = documents(CLUSTER / "ray-up" / name)[0]
    schema = json.loads(
        (
            Path(sys.modules["ray"].__file__ or "").parent / "autoscaler" / "ray-schema.json"
        ).read_text(encoding="utf-8")
    )
    jsonschema.validate(config, schema)
    filled = prepare_config(config)
    validate_config(filled)
    assert filled["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert all(
        (REPOSITORY / local).exists()
        for local in config["file_mounts"].values()
        if not local.startswith("~")
    )


def test_aws_gives_the_machines_no_more_than_they_need() -> None:
    config = documents(CLUSTER / "ray-up" / "aws.yaml")[0]
    head, gpu = (config["available_node_types"][name] for name in ("head", "gpu"))
    assert (head["resources"], head["max_workers"]) == ({"CPU": 0, "GPU": 0}, 0)
    assert gpu["min_workers"] >= 1
    assert gpu["resources"]["GPU"] == 1
    for node in (head["node_config"], gpu["node_config"]):
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert node["SecurityGroupIds"] == ["${AWS_SECURITY_GROUP}"], (
            "without one of our own Ray opens ssh to the world"
        )
        assert all(device["Ebs"]["Encrypted"] for device in node["BlockDeviceMappings"])
    for name in ("head", "worker"):
        policy = json.loads(
            (CLUSTER / "ray-up" / f"aws-{name}-policy.json").read_text(encoding="utf-8")
        )
        actions = {
            action
            for one in policy["Statement"]
            for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
        }
        assert not [
            action for action in actions if action.endswith("*") and action != "ec2:Describe*"
        ]
        assert any(action.startswith("ec2:") for action in actions) is (name == "head")
        for one in policy["Statement"]:
            assert "s3:" not in json.dumps(one["Action"]) or "${BUCKET}" in one["Resource"]


def test_the_launcher_for_aws_is_in_the_lock() -> None:
    if "moto" not in LOCK:
        pytest.skip("requirements.lock is older than the extra dev of pyproject.toml: make lock")
    assert "boto3" in LOCK, "`ray up` needs boto3 here and on the head"
