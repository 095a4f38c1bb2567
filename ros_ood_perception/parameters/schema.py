"""The JSON schema of the node's parameter files, made from the declarations."""

from __future__ import annotations

import json
from typing import Any

from ros_ood_perception.parameters.declarations import DECLARATIONS, Declaration

_JSON_TYPES = {"string": "string", "int": "integer", "double": "number", "bool": "boolean"}


def schema_text() -> str:
    """`parameter_schema` as a file."""
    return json.dumps(parameter_schema(), indent=2) + "\n"


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
    default = declaration.default_value
    item_type = declaration.type.removesuffix("_array")
    found: dict[str, Any] = {
        "type": "array" if isinstance(default, tuple) else _JSON_TYPES[item_type],
        "default": list(default) if isinstance(default, tuple) else default,
        "description": declaration.full_description,
    }
    limited = found
    if isinstance(default, tuple):
        limited = found["items"] = {"type": _JSON_TYPES[item_type]}
    if declaration.one_of:
        limited["enum"] = list(declaration.one_of)
    if declaration.bounds is not None:
        whole = item_type == "int"
        limited["minimum"], limited["maximum"] = (int(end) if whole else end for end in declaration.bounds)
    return found
