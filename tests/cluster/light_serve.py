"""Stands for `renal_ray.trial.serve`: takes trials, reads what they would read, and writes down
where and when; `python -m light_serve FD`."""

import json
import os
import socket
import sys
from time import sleep, time
from typing import Any

import pandas as pd

from renal_ray.store.ledger import FILES, Ledger
from renal_ray.store.place import Place
from renal_ray.trial.prepared import read_splits
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.workshop import Workshop
from renal_ray.types import Head

LASTS_S = float(os.environ.get("LIGHT_TRIAL_S", "0.5"))


def main(descriptor: int) -> None:
    stream = socket.socket(fileno=descriptor).makefile("rwb")
    work = Place(json.loads(stream.readline())["setup"]["work"])
    for line in stream:
        run(TrialSpec.from_json(json.loads(line)["trial"]), work)
        stream.write(json.dumps({"memory_mib": 1.0}).encode() + b"\n")
        stream.flush()


def run(spec: TrialSpec, work: Place) -> None:
    begun = time()
    if spec.head is Head.IMAGE and work.exists(spec.activations.folder):
        Workshop(work).rows(spec, read_splits(work))
    sleep(LASTS_S)
    ledger = Ledger(work)
    folder = ledger.begin(spec.trial_id, spec.to_json())
    for name in FILES[1:]:
        folder.write(name, b"")
    folder.write_parquet("history.parquet", pd.DataFrame({"epoch": [1, 2], "loss": [0.7, 0.6]}))
    seen = {
        "node": os.environ.get("TEST_NODE") or os.environ["RAY_CLOUD_INSTANCE_ID"],
        "cards": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "begun": begun,
        "ended": time(),
    }
    level: dict[str, Any] = {
        "metrics": {"auc": 0.5 + 0.01 * len(spec.freeze_point), "sen": 0.5, "spec": 0.5},
        "threshold": 0.5,
    }
    result = {
        "levels": {"slice": level, "patient": level},
        "images_per_second": 1.0,
        "seconds": {"total": LASTS_S, "train": LASTS_S, "setup": 0.0, "data": 0.0},
    }
    ledger.finish(spec.trial_id, result | {"seen": seen})


if __name__ == "__main__":
    main(int(sys.argv[1]))
