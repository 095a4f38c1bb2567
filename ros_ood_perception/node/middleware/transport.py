"""Checks whether Fast DDS can carry images of a size, and to all subscribers. It loses others without a message."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ros_ood_perception.launching.transport_environment import PROFILE, PROFILE_VARIABLES

DEFAULT_SEGMENT_BYTES = 512 * 1024
MESSAGE_OVERHEAD_BYTES = 1024
TYPE_LOOKUP_THREADS = "dds.tls."
FIX = (
    f"set {' and '.join(PROFILE_VARIABLES)} to {PROFILE} of this package, for the camera driver, this node and its "
    "consumers"
)


@dataclass(frozen=True)
class SharedMemory:
    """The shared-memory segment of a participant that starts in this environment.

    Attributes:
        segment_bytes: size of the segment; larger messages do not fit. None: there is no such limit.
        source: where the size is from.
    """

    segment_bytes: int | None
    source: str

    def hint(self) -> str:
        """Why images may be lost, if the segment is small; else empty."""
        if self.segment_bytes is None or self.segment_bytes > DEFAULT_SEGMENT_BYTES:
            return ""
        return f"; images above {self.segment_bytes} bytes may be lost ({self.source}). Remedy: {FIX}"

    def problem_of(self, what: str, message_bytes: int) -> str | None:
        """A sentence with the remedy if messages of that size are too large, else None."""
        if self.segment_bytes is None or message_bytes + MESSAGE_OVERHEAD_BYTES <= self.segment_bytes:
            return None
        return (
            f"{what}: {message_bytes} bytes, and the shared-memory segment of Fast DDS has {self.segment_bytes} "
            f"({self.source}); such images may be lost silently. Remedy: {FIX}"
        )


def shared_memory(rmw: str, environment: Mapping[str, str]) -> SharedMemory:
    """The segment that the environment variables of the middleware give.

    Args:
        rmw: identifier of the RMW implementation.
        environment: environment variables, such as `os.environ`.
    """
    if not rmw.startswith("rmw_fastrtps"):
        return SharedMemory(None, f"{rmw} has no such limit")
    for variable in PROFILE_VARIABLES:
        if path := environment.get(variable):
            return _profile(variable, Path(path))
    transports = environment.get("FASTDDS_BUILTIN_TRANSPORTS", "")
    if transports.startswith("LARGE_DATA"):
        if environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST":
            return SharedMemory(
                DEFAULT_SEGMENT_BYTES,
                "FASTDDS_BUILTIN_TRANSPORTS has no effect with ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST",
            )
        return SharedMemory(None, "FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA sends large messages over TCP")
    return SharedMemory(DEFAULT_SEGMENT_BYTES, "no profile is set: the default")


def looks_up_types() -> bool:
    """Whether Fast DDS, in this process, looks up the type of an endpoint before it matches it.

    Found by the name of the thread that does so. Fast DDS 3 does so unless its profile forbids it, and can then lose
    an endpoint.
    """
    names = []
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has just ended
            names.append(path.read_text())
    return any(name.startswith(TYPE_LOOKUP_THREADS) for name in names)


def _profile(variable: str, path: Path) -> SharedMemory:
    source = f"{variable}={path}"
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (OSError, ElementTree.ParseError) as error:
        return SharedMemory(DEFAULT_SEGMENT_BYTES, f"{source} cannot be read ({error}): the default")
    local = [(element.tag.rsplit("}", 1)[-1], element) for element in root.iter()]
    sizes = []
    for name, element in local:
        if name != "transport_descriptor":
            continue
        fields = {child.tag.rsplit("}", 1)[-1]: (child.text or "").strip() for child in element}
        if fields.get("type", "").upper() == "SHM":
            size = fields.get("segment_size", "")
            sizes.append(int(size) if size.isdecimal() else DEFAULT_SEGMENT_BYTES)
    builtin = not any(name == "useBuiltinTransports" and (e.text or "").strip() == "false" for name, e in local)
    if not sizes and not builtin:
        return SharedMemory(None, f"{source} uses no shared memory")
    return SharedMemory(max(sizes, default=DEFAULT_SEGMENT_BYTES), source)
