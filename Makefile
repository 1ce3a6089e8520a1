# make smoke   the whole study on a phantom cohort, from nothing to the report
# make test    all tests on TensorFlow, then those of models and trials on JAX
# make cluster  sweeps on clusters of several nodes, in network namespaces (root only), with faults put into them: about an hour
# make lint    style and types
# make fuzz    20,000 spoilt inputs: each is read or refused with a code (about 2 minutes)
# make codes   writes docs/codes.md anew
# make checklist  writes docs/reporting-checklist.md anew
# make lock    writes requirements.lock and cluster/requirements-gpu.lock anew (needs uv)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The tests that another backend could fail; the rest compute nothing with Keras.
ON_JAX := $(patsubst %,tests/test_%.py,model_backbone model_heads model_statistics model_compiled model_steps model_optimizers model_gradcam trial_augment trial_feed trial_train trial_run trial_score trial_explain)

# Two processes of up to 6 GB; a file's tests share what they make.
TWO := --numprocesses 2 --dist loadfile

# Byte-compiled on purpose: without it TensorFlow's import takes 22 s instead of 8 s.
COMPILED := env -u PYTHONDONTWRITEBYTECODE

.PHONY: smoke test cluster fuzz lint codes checklist lock clean

smoke: $(READY)
	$(BIN)/renal-ray phantom runs/phantom --patients 56 --seed 17
	$(BIN)/renal-ray run configs/smoke.yaml

test: $(READY)
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -q $(TWO)
	KERAS_BACKEND=jax $(BIN)/python -m pytest -q $(TWO) $(ON_JAX)

cluster: $(READY)
	RENAL_RAY_KEEP_FAULTS=1 $(BIN)/python -m pytest -q -m cluster

fuzz: $(READY)
	$(BIN)/python tests/fuzz --inputs 20000

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11 to 3.13 is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(COMPILED) $(BIN)/python -m pip install --quiet --compile --require-hashes -r requirements.lock
	$(COMPILED) $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

codes: $(READY)
	$(BIN)/python -c 'from renal_ray.problems import codes_page; print(codes_page(), end="")' > docs/codes.md

checklist: $(READY)
	$(BIN)/python -c 'from renal_ray.report.page import checklist_document; print(checklist_document(), end="")' > docs/reporting-checklist.md

lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --upgrade -o requirements.lock
	uv pip compile pyproject.toml --extra gpu --extra gpu-jax -c requirements.lock --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  $$(grep -oE '^[a-zA-Z0-9._-]+==' requirements.lock | sort -u | tr -d = | sed 's/^/--no-emit-package /') --upgrade -o cluster/requirements-gpu.lock

clean:
	rm -rf $(VENV) runs build dist *.egg-info
