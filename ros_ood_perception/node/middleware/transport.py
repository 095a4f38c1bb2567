"""Checks whether Fast DDS can carry images of a size, and to all subscribers. It loses others without a message."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.launching.transport_environment import PROFILE, PROFILE_VARIABLES, profile_variables

DEFAULT_SEGMENT_BYTES = 512 * 1024
MESSAGE_OVERHEAD_BYTES = 1024
TYPE_LOOKUP_THREADS = "dds.tls."
VARIABLES = f"{PROFILE_VARIABLES[0]} (up to Jazzy {PROFILE_VARIABLES[1]})"


def _profile_file() -> str:
    try:
        return str(package_file(PROFILE))
    except FileNotFoundError:
        return f"{PROFILE} of this package"


FIX = f"set {VARIABLES} to {_profile_file()}, for the camera driver, this node and its consumers, and start them again"
"""What to do where images do not fit into shared memory."""
CAMERA_FIX = (
    f"set {VARIABLES} to {_profile_file()} in the environment of the camera driver, and start it again; the launch "
    "file of this node does so for the node only"
)
"""What to do where this node has the profile, and the camera's process lacks it."""


@dataclass(frozen=True)
class SharedMemory:
    """The shared-memory segment of a participant that starts in this environment.

    Attributes:
        segment_bytes: size of the segment; larger messages do not fit. None: there is no such limit.
        source: where the size is from.
        fast_dds: the middleware is Fast DDS.
    """

    segment_bytes: int | None
    source: str
    fast_dds: bool = True

    @property
    def _is_small(self) -> bool:
        return self.segment_bytes is not None and self.segment_bytes <= DEFAULT_SEGMENT_BYTES

    def _may_lose(self, largest_bytes: int) -> bool:
        """Whether a process without a profile may lose images of the size of those that came; 0: none did."""
        return self.fast_dds and (not largest_bytes or largest_bytes + MESSAGE_OVERHEAD_BYTES > DEFAULT_SEGMENT_BYTES)

    def hint(self, largest_bytes: int = 0) -> str:
        """Why no image of a publisher may arrive; empty if the transport profile cannot be the reason.

        Args:
            largest_bytes: size of the largest message that came; 0 if none did.
        """
        if not self._may_lose(largest_bytes):
            return ""
        if self._is_small:
            return f"; images above {self.segment_bytes} bytes may be lost ({self.source}). Remedy: {FIX}"
        return (
            f"; if it sends, its images above {DEFAULT_SEGMENT_BYTES} bytes are lost while its process lacks the "
            f"transport profile. Remedy: {CAMERA_FIX}"
        )

    def why_lost(self, largest_bytes: int) -> str:
        """The likely cause of losses that the middleware reports, and the remedy.

        Args:
            largest_bytes: size of the largest message that came; 0 if none did.
        """
        if not self._may_lose(largest_bytes):
            return (
                "likely cause: the network or its buffers. Remedy: a wired link, compressed images, or larger socket "
                "buffers (net.core.rmem_max)"
            )
        came = f"; the largest that came has {largest_bytes} bytes" if largest_bytes else ""
        if self._is_small:
            return (
                f"likely cause: images above {DEFAULT_SEGMENT_BYTES} bytes do not fit into the shared memory of Fast "
                f"DDS{came} ({self.source}). Remedy: {FIX}"
            )
        return (
            f"likely cause: the camera's process was started without the transport profile, so its images above "
            f"{DEFAULT_SEGMENT_BYTES} bytes do not fit into shared memory{came}. Remedy: {CAMERA_FIX}. If it has "
            "the profile, this process got too little time: look at the machine's load"
        )

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
        return SharedMemory(None, f"{rmw} has no such limit", fast_dds=False)
    read = profile_variables(environment)
    for variable in read:
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
    unread = [variable for variable in PROFILE_VARIABLES if variable not in read and environment.get(variable)]
    if unread:
        return SharedMemory(DEFAULT_SEGMENT_BYTES, f"this Fast DDS reads {read[0]}, not {unread[0]}: the default")
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
