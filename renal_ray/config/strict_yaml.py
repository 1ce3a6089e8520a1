"""YAML of which nothing is lost, and nothing is turned into something else."""

import re
from collections.abc import Hashable
from typing import Any

import yaml


class StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the core schema of YAML 1.2 (section 10.3), in which `on` and `yes`
    are words and 1:30 is no number; keys that are given twice and leading zeros are refused."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping, each of whose keys stands once."""
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
        return super().construct_mapping(node, deep=deep)

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
    StrictLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first)
    )


def read_yaml(text: str) -> Any:
    """What a YAML document says.

    Args:
        text: the document.

    Raises:
        yaml.YAMLError: it is none, gives a key twice, or a number with a leading zero.
    """
    return yaml.load(text, StrictLoader)  # noqa: S506 - derived from the safe loader
