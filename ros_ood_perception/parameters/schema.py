"""The JSON schema of the node's parameter files, made from the declarations.

python -m ros_ood_perception.parameters.schema > config/perception_node.schema.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ros_ood_perception.parameters.declarations import DECLARATIONS, Declaration


def parameter_schema() -> dict[str, Any]:
    """For a file with the parameters of `perception_node` under `/**` (JSON schema, draft 7)."""
    properties: dict[str, Any] = {}
    for declaration in DECLARATIONS:
        *groups, name = declaration.name.split(".")
        level = properties
        for group in groups:
            level = level.setdefault(group, {"type": "object", "additionalProperties": False, "properties": {}})
            level = level["properties"]
        level[name] = _property(declaration)
    parameters = {
        "type": "object",
        "additionalProperties": False,
        "required": ["bundle"],
        "properties": properties,
        # QoS of single topics, and what every node has.
        "patternProperties": {"^qos_overrides": {}, "^use_sim_time$": {"type": "boolean"}},
    }
    node = {
        "type": "object",
        "additionalProperties": False,
        "required": ["ros__parameters"],
        "properties": {"ros__parameters": parameters},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Parameters of perception_node",
        "type": "object",
        "additionalProperties": False,
        "required": ["/**"],
        "properties": {"/**": node},
    }


def _property(declaration: Declaration) -> dict[str, Any]:
    default = declaration.default
    kinds = {str: "string", int: "integer", float: "number", bool: "boolean", tuple: "array"}
    found: dict[str, Any] = {
        "type": kinds[type(default)],
        "default": list(default) if isinstance(default, tuple) else default,
        "description": declaration.description + ("" if declaration.live else " Read at configure."),
    }
    limited = found
    if isinstance(default, tuple):
        limited = found["items"] = {"type": kinds[type(default[0])]}
    if declaration.choices:
        limited["enum"] = list(declaration.choices)
    if declaration.range is not None:
        whole = isinstance(default, int)
        limited["minimum"], limited["maximum"] = (int(end) if whole else end for end in declaration.range)
    return found


if __name__ == "__main__":
    json.dump(parameter_schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")
