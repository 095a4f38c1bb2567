"""The node's parameters: names, defaults, ranges and descriptions, and how they become settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from ros_ood_perception.inference.engine import ENGINES

SCORE_ENCODINGS = ("mono8", "32FC1")


class ParameterError(ValueError):
    """A parameter with a value that the node cannot work with. The message names it."""


@dataclass(frozen=True)
class NodeSettings:
    """What the parameters say, at the moment of configure."""

    bundle: Path
    engine: str
    num_threads: int
    operating_point: str
    anomaly_threshold: float | None
    score_encoding: str
    max_frame_age_ms: float


@dataclass(frozen=True)
class _Declaration:
    name: str
    default: str | int | float
    description: str
    range: tuple[float, float] | None = None


DECLARATIONS = (
    _Declaration("bundle", "", "Folder of the model bundle (model.onnx and bundle.yaml). Required."),
    _Declaration("engine", "auto", f"What runs the model: {', '.join(ENGINES)}."),
    _Declaration(
        "num_threads", 0, "CPU threads of one inference; 0 takes every CPU that the process may use.", (0, 256)
    ),
    _Declaration(
        "operating_point", "", "Name of the bundle's operating point that gives the threshold; '' takes the first."
    ),
    _Declaration(
        "anomaly_threshold",
        -1.0,
        "A pixel is anomalous where its score is at least this, 0 to 1; -1 takes the operating point's.",
        (-1.0, 1.0),
    ),
    _Declaration(
        "score_encoding",
        "mono8",
        "Encoding of ~/output/anomaly/score: mono8 (0 to 255) or 32FC1 (0 to 1, four times the bytes).",
    ),
    _Declaration(
        "max_frame_age_ms",
        0.0,
        "A frame whose stamp is older than this when its turn comes is dropped and counted, ms; 0 drops none.",
        (0.0, 3.6e6),
    ),
)


class NodeParameters:
    """Declares the parameters on a node and reads them.

    A start-up value that the declaration refuses (wrong type, out of range) does not end the process: it is kept as a
    problem that `read` reports, so that configure fails with a message and can be tried again after a correction.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._problems: dict[str, str] = {}
        self.locked = False
        for declaration in DECLARATIONS:
            self._declare(declaration)
        node.add_on_set_parameters_callback(self._on_set)

    def _declare(self, declaration: _Declaration) -> None:
        descriptor = ParameterDescriptor(description=declaration.description)
        allowed = ""
        if declaration.range is not None:
            low, high = declaration.range
            allowed = f"; it must be {type(declaration.default).__name__} from {low:g} to {high:g}"
            if isinstance(declaration.default, float):
                descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        try:
            self._node.declare_parameter(declaration.name, declaration.default, descriptor)
        except (InvalidParameterValueException, InvalidParameterTypeException) as error:
            self._problems[declaration.name] = f"parameter '{declaration.name}': {error}{allowed}"
            self._node.declare_parameter(declaration.name, declaration.default, descriptor, ignore_override=True)

    def _on_set(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        own = [p.name for p in changes if any(p.name == d.name for d in DECLARATIONS)]
        if own and self.locked:
            return SetParametersResult(
                successful=False,
                reason=f"{', '.join(own)}: read at configure; deactivate and clean up the node, then set and configure",
            )
        for name in own:
            self._problems.pop(name, None)
        return SetParametersResult(successful=True)

    def read(self) -> NodeSettings:
        """The settings as they are now.

        Raises:
            ParameterError: a value that the node cannot work with.
        """
        if self._problems:
            raise ParameterError("; ".join(self._problems.values()))
        values = {d.name: self._node.get_parameter(d.name).value for d in DECLARATIONS}
        if not values["bundle"]:
            raise ParameterError("parameter 'bundle' is empty; give the folder of a model bundle")
        for name, allowed in (("engine", ENGINES), ("score_encoding", SCORE_ENCODINGS)):
            if values[name] not in allowed:
                raise ParameterError(f"parameter '{name}' is '{values[name]}'; it must be one of {', '.join(allowed)}")
        threshold = values["anomaly_threshold"]
        if -1 < threshold < 0:
            raise ParameterError(
                f"parameter 'anomaly_threshold' is {threshold}; it must be in [0, 1], or -1 for the operating point's"
            )
        return NodeSettings(
            bundle=Path(values["bundle"]).expanduser(),
            engine=values["engine"],
            num_threads=values["num_threads"],
            operating_point=values["operating_point"],
            anomaly_threshold=None if threshold == -1 else threshold,
            score_encoding=values["score_encoding"],
            max_frame_age_ms=values["max_frame_age_ms"],
        )
