"""The house: which room may import which, and what no room may do."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from renal_ray.config.strict_yaml import StrictLoader

PACKAGE = Path(__file__).resolve().parent.parent / "renal_ray"
FLOORS = (
    "types",
    "problems",
    "config",
    "study_file",
    "progress",
    "dicom",
    "imaging",
    "cohort",
    "store",
    "protocol",
    "model",
    "trial",
    "sweep",
    "report",
    "apply",
    "commands",
    "cli",
)
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 460
HEAVY = (
    "tensorflow",
    "keras",
    "ray",
    "pandas",
    "pyarrow",
    "numpy",
    "sklearn",
    "scipy",
    "matplotlib",
    "pydicom",
    "nibabel",
)


def room(module: Path) -> str:
    """First name below renal_ray."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(module: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, anywhere in it, and whether only for type checking."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    typing_only = {
        id(node) for block in ast.walk(tree) if _is_type_checking(block) for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, id(node) in typing_only) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield from (
                (f"{node.module}.{name.name}", id(node) in typing_only) for name in node.names
            )


def _is_type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def test_every_room_has_its_floor() -> None:
    rooms = {room(module) for module in MODULES} - {"__init__"}
    assert rooms == set(FLOORS)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_below_it(module: Path) -> None:
    if room(module) == "__init__":
        assert not list(imports(module))
        return
    here = FLOORS.index(room(module))
    for name, _ in imports(module):
        parts = name.split(".")
        if parts[0] == "renal_ray" and len(parts) > 1 and parts[1] != "__version__":
            assert FLOORS.index(parts[1]) <= here, f"{module.name} in {room(module)} imports {name}"


def test_ray_keras_and_tensorflow_stay_in_their_rooms() -> None:
    for module in MODULES:
        for name, typing_only in imports(module):
            first = name.split(".")[0]
            alone = (
                module.parent.name == "steps"
            )  # whole-epoch execution and fused operations, for which Keras has no call
            assert first not in ("tensorflow", "jax", "torch") or alone, (
                f"{module}: {name}; Keras has the call"
            )
            assert first != "ray" or room(module) == "sweep", f"{module}: {name}"
            assert (
                first != "keras"
                or room(module) == "model"
                or (typing_only and room(module) == "trial")
            ), f"{module}: {name}"


def test_progress_is_for_those_who_talk_to_a_terminal() -> None:
    users = {
        room(module)
        for module in MODULES
        for name, _ in imports(module)
        if name.startswith("renal_ray.progress")
    }
    assert users == {"sweep", "cli"}


def test_no_file_is_too_long() -> None:
    lengths = {
        str(module.relative_to(PACKAGE)): len(module.read_text(encoding="utf-8").splitlines())
        for module in MODULES
    }
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_nothing_executes_what_it_reads() -> None:
    banned = ("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")
    unsafe = {
        "eval",
        "exec",
        "unsafe_load",
        "full_load",
        "read_pickle",
        "to_pickle",
        "load_all",
        "load_model",
    }
    for module in MODULES:
        assert not [name for name, _ in imports(module) if name.split(".")[0] in banned], module
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            assert called not in unsafe, f"{module}:{node.lineno} {called}"
            is_yaml_load = (
                called == "load"
                and isinstance(node.func, ast.Attribute)
                and getattr(node.func.value, "id", "") == "yaml"
            )
            assert not is_yaml_load or module.name == "strict_yaml.py", (
                f"{module}:{node.lineno} yaml.load"
            )
            assert "allow_pickle" not in {keyword.arg for keyword in node.keywords}, (
                f"{module}:{node.lineno}"
            )
            assert "shell" not in {keyword.arg for keyword in node.keywords}, (
                f"{module}:{node.lineno}"
            )


def test_yaml_is_written_and_read_by_the_safe_functions_only() -> None:
    assert issubclass(StrictLoader, yaml.SafeLoader)
    assert set(StrictLoader.yaml_constructors) == set(
        yaml.SafeLoader.yaml_constructors
    )  # none that makes objects
    for module in (module for module in MODULES if module.name != "strict_yaml.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "yaml"
            ):
                assert node.attr in ("safe_load", "safe_dump", "YAMLError"), (
                    f"{module}:{node.lineno} yaml.{node.attr}"
                )


HELP = """
import contextlib, io, json, sys
from renal_ray import cli
texts = {}
for command in ("", *(info.name or info.callback.__name__ for info in cli.app.registered_commands)):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            cli.app(([command] if command else []) + ["--help"], prog_name="renal-ray")
        except SystemExit as end:
            assert end.code == 0, (command, end.code)
    texts[command] = out.getvalue()
print(json.dumps({"modules": sorted({name.split(".")[0] for name in sys.modules}), "texts": texts}))
"""


def test_help_of_every_command_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP], capture_output=True, encoding="utf-8", check=True
    )
    found = json.loads(done.stdout)
    assert set(found["modules"]) & set(HEAVY) == set()
    studies = {
        "prepare",
        "plan",
        "bench",
        "search",
        "sweep",
        "test",
        "explain",
        "report",
        "run",
        "status",
    }
    assert set(found["texts"]) == {
        "",
        "phantom",
        "scan",
        "inspect",
        "compare",
        "predict",
        "export",
        *studies,
    }
    for command, text in found["texts"].items():
        assert f"Usage: renal-ray {command}".strip() in text
    for command in studies:
        assert "--set" in found["texts"][command]
        assert "STUDY" in found["texts"][command]
    assert "--dry-run" in found["texts"]["run"]
