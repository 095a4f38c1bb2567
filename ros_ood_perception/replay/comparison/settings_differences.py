"""What was set differently in two runs: bundle, engine, parameters and options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FACTS = {
    "bundle": ("bundle", "name"),
    "model SHA-256": ("bundle", "model_sha256"),
    "engine": ("engine",),
    "anomaly threshold": ("anomaly_threshold",),
}
_MISSING = "(missing)"


def settings_differences(
    here: Mapping[str, Any] | None, there: Mapping[str, Any] | None
) -> list[dict[str, Any]] | None:
    """Every setting that differs: its name, and its value in this run and in the other.

    Args:
        here, there: what `summary.json` of each run holds.

    Returns:
        None if one of the runs has no summary, so that nothing is known about it.
    """
    if here is None or there is None:
        return None
    values = [_settings(here), _settings(there)]
    names = list(dict.fromkeys([*values[0], *values[1]]))
    return [
        {"setting": name, "this": values[0].get(name, _MISSING), "other": values[1].get(name, _MISSING)}
        for name in names
        if values[0].get(name, _MISSING) != values[1].get(name, _MISSING)
    ]


def _settings(summary: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, keys in _FACTS.items():
        value: Any = summary
        for key in keys:
            value = value.get(key, _MISSING) if isinstance(value, Mapping) else _MISSING
        found[name] = value
    in_force = summary.get("settings")  # a summary of an earlier version has none
    for name, fact in in_force.items() if isinstance(in_force, Mapping) else ():
        # Those of parameters are there by these.
        if isinstance(fact, Mapping) and str(fact.get("from")).startswith("operating point"):
            found[f"{name} of the operating point"] = fact.get("value")
    plan = summary.get("plan")
    plan = plan if isinstance(plan, Mapping) else {}
    # The bundle is there by its model's digest already.
    found |= {str(name): value for name, value in plan.items() if name not in ("parameters", "bundle")}
    parameters = plan.get("parameters")
    if isinstance(parameters, Mapping):
        found |= {f"parameter {name}": value for name, value in parameters.items()}
    return found
