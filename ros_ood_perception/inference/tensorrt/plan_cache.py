"""TensorRT plans on disk: one for each graph, GPU, TensorRT version, precision and shape, each with a sidecar.

A plan fits only the GPU and the TensorRT version that it was built for, and it can hold code. So its file name is the
digest of all that it depends on, and its sidecar holds the plan's own digest. A plan that does not match is built again
and never given to TensorRT. Digests do not protect against someone who can write to the folder. So the folder is opened
once, must not be writable by other users, and its files are opened relative to it without following links.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ros_ood_perception.files.atomic_files import replacing
from ros_ood_perception.files.plain_file import NotPlainError, others_can_write, read_plain_file
from ros_ood_perception.files.strict_yaml import SchemaError, from_mapping
from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.inference.parity import Parity

FORMAT = 1
CACHE_VARIABLE = "ROS_OOD_PERCEPTION_CACHE"
LARGEST_PLAN_BYTES = 4 << 30
LARGEST_SIDECAR_BYTES = 1 << 16


@dataclass(frozen=True)
class PlanKey:
    """All that a plan depends on.

    Attributes:
        model_sha256: of the ONNX file that was parsed.
        tensorrt_version: the full version.
        gpu, compute_capability: of the GPU; a plan fits one kind.
        image_size, batch: the largest that the plan takes.
        flags: of the builder, with the version of the code that sets them.
    """

    model_sha256: str
    tensorrt_version: str
    gpu: str
    compute_capability: tuple[int, int]
    precision: str
    image_size: tuple[int, int]
    batch: int
    flags: tuple[str, ...]

    @property
    def digest(self) -> str:
        """64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def timing_digest(self) -> str:
        """Digest of what kernel timings depend on: TensorRT's version and the GPU."""
        parts = [self.tensorrt_version, self.gpu, list(self.compute_capability)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Sidecar:
    """The JSON file beside a plan."""

    format: int
    key: PlanKey
    plan_sha256: str
    build_seconds: float
    parity: Parity


@dataclass(frozen=True)
class CachedPlan:
    """A plan whose digest and key were checked."""

    plan: bytes
    sidecar: Sidecar


class PlanRejected(EngineError):  # noqa: N818 - it is an outcome: the plan is built again
    """There is no plan for this key, or it cannot be trusted. The message says which."""


def default_folder() -> Path:
    """`$ROS_OOD_PERCEPTION_CACHE`, or `ros_ood_perception` in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ros_ood_perception"


class PlanCache:
    """A folder of plans. It is opened once, and its files stay those of this folder whatever its path leads to later.

    Raises:
        EngineError: the folder cannot be created, or other users can write to it, who could then run code here.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise EngineError(
                f"{folder}: the folder for TensorRT plans cannot be made ({error.strerror}); set {CACHE_VARIABLE}"
            ) from error
        weakref.finalize(self, os.close, self._open)
        if others_can_write(os.fstat(self._open)):
            raise EngineError(
                f"{folder}: other users can write to this folder, and a TensorRT plan can hold code. Take it back "
                f"(chown, chmod go-w), or set {CACHE_VARIABLE} to another"
            )

    def plan_path(self, key: PlanKey) -> Path:
        """Path of the plan of a key."""
        return self.folder / f"{key.digest}.plan"

    def sidecar_path(self, key: PlanKey) -> Path:
        """Path of the sidecar of a key."""
        return self.folder / f"{key.digest}.json"

    def read(self, key: PlanKey) -> CachedPlan:
        """Read and check the plan of a key.

        Raises:
            PlanRejected: there is none, its sidecar is damaged or of another key, or its digest does not match.
        """
        path, sidecar_path = self.plan_path(key), self.sidecar_path(key)
        try:
            text = self._contents(sidecar_path, LARGEST_SIDECAR_BYTES)
            sidecar = from_mapping(json.loads(text.decode()), Sidecar, str(sidecar_path))
            plan = self._contents(path, LARGEST_PLAN_BYTES)
        except FileNotFoundError as error:
            raise PlanRejected(f"{self.folder / str(error.filename)}: not there") from error
        except SchemaError as error:
            raise PlanRejected(str(error)) from error
        except (OSError, ValueError, RecursionError) as error:
            raise PlanRejected(f"{sidecar_path}: not readable ({error})") from error
        if sidecar.format != FORMAT:
            raise PlanRejected(f"{sidecar_path}: format is {sidecar.format}, this version reads {FORMAT}")
        if sidecar.key != key:
            raise PlanRejected(f"{sidecar_path}: is about another plan than its name says")
        digest = hashlib.sha256(plan).hexdigest()
        if digest != sidecar.plan_sha256:
            raise PlanRejected(f"{path}: SHA-256 is {digest}, its sidecar says {sidecar.plan_sha256}")
        return CachedPlan(plan, sidecar)

    def store(self, key: PlanKey, plan: bytes, build_seconds: float, parity: Parity) -> CachedPlan:
        """Write a plan and its sidecar. After an interruption in between they do not match, and it is built again."""
        sidecar = Sidecar(FORMAT, key, hashlib.sha256(plan).hexdigest(), round(build_seconds, 1), parity)
        self._write(self.plan_path(key), plan)
        self._write(self.sidecar_path(key), (json.dumps(asdict(sidecar), indent=2) + "\n").encode())
        return CachedPlan(plan, sidecar)

    @contextlib.contextmanager
    def lock(self, key: PlanKey, log: Callable[[str], None]) -> Iterator[None]:
        """Let one process at a time build the plan of a key. The lock ends with the process that holds it."""
        path = self.folder / f"{key.digest}.lock"
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            file = os.fdopen(os.open(path.name, flags, 0o600, dir_fd=self._open), "wb")
        except OSError as error:
            raise EngineError(f"{path}: cannot be written ({error.strerror}); is the folder read-only?") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log("another process builds this TensorRT plan: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def timings(self, key: PlanKey) -> bytes:
        """Kernel timings of earlier builds for this GPU and TensorRT; empty where there are none."""
        try:
            return self._contents(self._timings_path(key), LARGEST_PLAN_BYTES)
        except (OSError, PlanRejected):
            return b""

    def store_timings(self, key: PlanKey, timings: bytes) -> None:
        """Keep the kernel timings of a build, so that the next one of a similar model is faster."""
        self._write(self._timings_path(key), timings)

    def _timings_path(self, key: PlanKey) -> Path:
        return self.folder / f"{key.timing_digest}.timings"

    def _contents(self, path: Path, most_bytes: int) -> bytes:
        try:
            return read_plain_file(Path(path.name), most_bytes, self._open)
        except NotPlainError as error:
            raise PlanRejected(f"{self.folder}/{error}") from error

    def _write(self, path: Path, contents: bytes) -> None:
        try:
            with replacing(Path(path.name), folder=self._open, mode=0o600) as file:
                file.write(contents)
        except OSError as error:
            raise EngineError(f"{path}: cannot be written ({error.strerror}); is the disk full?") from error
