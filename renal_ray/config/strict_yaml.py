"""YAML of which nothing is lost, and nothing is turned into something else."""

import re
from typing import Any

import yaml


class StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the core schema of YAML 1.2 (section 10.3), in which `on` and `yes`
    are words and 1:30 is no number; keys that are given twice and leading zeros are refused."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping, each of whose keys stands once; looked at before merge keys are resolved,
        which may bring a key that stands here too."""
        node = super().compose_mapping_node(anchor)
        seen: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in seen:
                message = (
                    f"{key.value!r} stands in line {seen[key.value]} and "
                    f"again in line {line}; keep one"
                )
                raise yaml.constructor.ConstructorError(None, None, message)
            seen[key.value] = line
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A decimal number; a leading zero meant eight as the base in YAML 1.1 and means nothing in
        1.2."""
        text = str(node.value)
        if re.match(r"[-+]?0\d", text):
            message = (
                f"{text} in line {node.start_mark.line + 1} begins with a zero; "
                "write the number without it, or a name in quotes"
            )
            raise yaml.constructor.ConstructorError(None, None, message)
        return int(text)


StrictLoader.add_constructor("tag:yaml.org,2002:int", StrictLoader.construct_yaml_int)


class StrictDumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which quotes also what `StrictLoader` alone would take for a number:
    08 and 1e3 are texts in YAML 1.1."""


for tag, pattern, first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    for kind in (StrictLoader, StrictDumper):
        kind.add_implicit_resolver(
            f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first)
        )


def read_yaml(text: str) -> Any:
    """What a YAML document says.

    Args:
        text: the document.

    Raises:
        yaml.YAMLError: it is none, gives a key twice, or a number with a leading zero.
    """
    try:
        return yaml.load(text, StrictLoader)  # noqa: S506 - derived from the safe loader
    except (
        ValueError,
        KeyError,
        AttributeError,
    ) as error:  # PyYAML's own for `!!int x`, `!!bool x`
        raise yaml.YAMLError(f"a value is not what its tag says ({error})") from None
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


def write_yaml(value: Any) -> str:
    """A value as YAML that `read_yaml` reads back to the same.

    Args:
        value: mappings, sequences, texts, numbers, booleans and None; keys keep their order.
    """
    return yaml.dump(value, Dumper=StrictDumper, sort_keys=False, allow_unicode=True, width=120)
