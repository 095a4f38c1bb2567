"""Changes to a configuration from the command line: `optimiser.learning_rate=1e-4`."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from ros_ood_perception.files.strict_yaml import SchemaError


def changed(values: Any, changes: Sequence[str]) -> Any:
    """A copy of plain data with some fields replaced. Names and types are checked later, by the schema.

    >>> changed({"data": {"set": "camvid"}}, ["data.held_out=[car]", "epochs=3"])
    {'data': {'set': 'camvid', 'held_out': ['car']}, 'epochs': 3}

    Args:
        values: the contents of a YAML file.
        changes: `FIELD=VALUE`. Nested names are joined by dots, elements of a list are given by number, VALUE is YAML.

    Raises:
        SchemaError: a change has another form, or its field is inside a value without fields.
    """
    result = copy.deepcopy(values)
    for change in changes:
        path, equals, text = change.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SchemaError(f"--set {change}: the value is not YAML ({error})") from error
        *above, last = path.split(".")
        if not equals or not all((*above, last)):
            raise SchemaError(f"--set {change}: must be FIELD=VALUE, such as optimiser.learning_rate=1e-4")
        place = result
        for name in above:
            if isinstance(place, dict):
                place.setdefault(name, {})
            place = _at(place, name, change)
        _at(place, last, change)
        place[int(last) if isinstance(place, list) else last] = value
    return result


def _at(place: Any, name: str, change: str) -> Any:
    if isinstance(place, dict):
        return place.get(name)
    if isinstance(place, list) and name.isdigit() and int(name) < len(place):
        return place[int(name)]
    raise SchemaError(f"--set {change}: '{name}' is inside a value of the configuration that has no fields")


def as_options(changes: Sequence[str]) -> str:
    """The changes as options of a command line, each with a space before it. Of absolute paths only the name is kept.

    >>> as_options(["epochs=3", "segmenter.network=/home/me/segformer"])
    ' --set epochs=3 --set segmenter.network=segformer'
    """
    shown = [re.sub(r"^([^=]+=)/(?:.*/)?([^/]+)/?$", r"\1\2", change) for change in changes]
    return "".join(f" --set {shlex.quote(change)}" for change in shown)
