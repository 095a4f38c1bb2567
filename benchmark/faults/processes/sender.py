"""A camera in a process of its own that does what its standard input says, and writes down each message before it is
sent, so that what a killed camera sent is known as well.

Commands, a line each: `go`, `hold`, `one` (a good frame), `offset NANOSECONDS` (of the stamps),
`transport raw|compressed`, `hostile NAME`, `info NAME`. The log has a line for each image: transport, number of the
publisher's message, seconds and nanoseconds of the stamp, index of the good frame that it holds or was made of, `good`
or the hostile name, and when (ns, monotonic clock).
"""

from __future__ import annotations

import argparse
import array
import os
import queue
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from benchmark.faults.frames import CAMERAS, POOL_SIZE, TRANSPORTS, PoolFrame, image_topic, info_topic, pool
from benchmark.faults.hostile import OF_TRANSPORT, spoil_info
from ros_ood_perception.messages.stamps import NANOSECONDS_PER_SECOND

QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
STAMP_STEP_NS = 1_000_000


@dataclass(frozen=True)
class Sent:
    """A line of the log."""

    transport: str
    number: int
    stamp: tuple[int, int]
    index: int
    kind: str
    sent_at: float

    @property
    def good(self) -> bool:
        """A frame of the pool, unspoiled."""
        return self.kind == "good"


def parse(line: str) -> Sent:
    """A line of the log; times in seconds."""
    transport, number, sec, nanosec, index, kind, at_ns = line.split()
    return Sent(transport, int(number), (int(sec), int(nanosec)), int(index), kind, int(at_ns) / 1e9)


class Sender:
    """Publishes on both transports' topics of one camera, one at a time."""

    def __init__(self, camera: str, size: tuple[int, int], log: str) -> None:
        self._camera = camera
        self._frames = pool(camera, size)
        self._size = size
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._node = Node(f"{camera}_{os.getpid()}")
        kinds = {"raw": Image, "compressed": CompressedImage}
        self._publishers = {
            transport: self._node.create_publisher(kinds[transport], image_topic(camera, transport), QOS)
            for transport in TRANSPORTS
        }
        self._infos = self._node.create_publisher(CameraInfo, info_topic(camera), QOS)
        self._numbers = dict.fromkeys(TRANSPORTS, 0)
        self._turn = 0
        self.transport = "raw"
        self.offset_ns = 0

    def send_good(self) -> None:
        """Send the next frame of the pool with its calibration."""
        self._infos.publish(self._info())
        index = self._turn % POOL_SIZE
        self._turn += 1
        self._send(self._frames[index], {}, index, "good")

    def send_hostile(self, name: str) -> None:
        """Send a spoiled frame of the pool."""
        index = self._turn % POOL_SIZE
        # PNG and JPEG have their own faults: take a frame of the right format.
        spoil = OF_TRANSPORT[self.transport][name]
        for candidate in (index, (index + 1) % POOL_SIZE):
            frame, header = spoil(self._frames[candidate])
            if header or frame is not self._frames[candidate]:
                index = candidate
                break
        self._send(frame, header, index, name)

    def send_info(self, name: str) -> None:
        """Send a spoiled calibration."""
        self._infos.publish(spoil_info(self._info(), name))

    def _send(self, frame: PoolFrame, fields: dict[str, Any], index: int, kind: str) -> None:
        transport = self.transport
        self._numbers[transport] += 1
        number = self._numbers[transport]
        # No two stamps are equal, wherever the clock is set: their last digits count the messages.
        stamp_ns = (time.time_ns() + self.offset_ns) // STAMP_STEP_NS * STAMP_STEP_NS + number % STAMP_STEP_NS
        seconds, nanosec = divmod(stamp_ns, NANOSECONDS_PER_SECOND)
        sec = fields.get("sec", seconds)
        header = Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=fields.get("frame_id", self._camera))
        message: Any
        if transport == "raw":
            data = array.array("B", frame.data)
            message = Image(header=header, height=frame.height, width=frame.width, data=data)
            message.encoding, message.step = frame.encoding, frame.step
        else:
            message = CompressedImage(header=header, format=frame.format, data=array.array("B", frame.file))
        line = f"{transport} {number} {sec} {nanosec} {index} {kind} {time.monotonic_ns()}\n"
        os.write(self._log, line.encode())
        self._publishers[transport].publish(message)

    def _info(self) -> CameraInfo:
        height, width = self._size
        focal = 0.8 * width
        k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0]
        return CameraInfo(
            header=Header(frame_id=self._camera),
            height=height,
            width=width,
            distortion_model="plumb_bob",
            d=[0.0] * 5,
            k=k,
            r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
            p=[focal, 0.0, width / 2, 0.0, 0.0, focal, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0],
        )


def main() -> None:
    """Command line; ends with its standard input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camera", choices=CAMERAS, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--log", required=True)
    options = parser.parse_args()
    commands: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            commands.put(line.strip())
        commands.put(None)

    threading.Thread(target=read, daemon=True).start()
    rclpy.init()
    sender = Sender(options.camera, tuple(options.size), options.log)
    going, due = False, time.monotonic()
    while True:
        try:
            wait_s = max(0.0, due - time.monotonic()) if going else 1.0
            command = commands.get(timeout=wait_s) if wait_s else commands.get_nowait()
        except queue.Empty:
            if going:
                sender.send_good()
                # After a stop of the process it continues at its rate and does not catch up.
                due = max(due + 1 / options.rate, time.monotonic())
            continue
        if command is None:
            break
        word, _, argument = command.partition(" ")
        if word == "go":
            going, due = True, time.monotonic()
        elif word == "hold":
            going = False
        elif word == "one":
            sender.send_good()
        elif word == "offset":
            sender.offset_ns = int(argument)
        elif word == "transport":
            sender.transport = argument
        elif word == "hostile":
            sender.send_hostile(argument)
        elif word == "info":
            sender.send_info(argument)
        else:
            raise ValueError(f"unknown command '{command}'")
    # Without a clean shutdown: processes that leave Fast DDS at the same time can hang (Fast-DDS issue 6513).
    os._exit(0)


if __name__ == "__main__":
    main()
