"""Messages with any field whatever: the checks let through only what can be read, and the node outlives the rest."""

from __future__ import annotations

import array
from collections.abc import Callable
from pathlib import Path

import cv2
import hostile_images as hostile
import numpy as np
from bench import RELIABLE, Bench, NodeProcess, image
from builtin_interfaces.msg import Time
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from ros_ood_perception.camera.compressed_image import check_compressed, decode
from ros_ood_perception.camera.raw_encodings import ENCODINGS
from ros_ood_perception.camera.raw_image import MalformedImageError, check_image, to_colour

MAX_PIXELS = 100 * 100
NAMES = (*ENCODINGS, "16UC1", "8UC2", "8SC1", "32FC1", "64FC4", "32SC2", "", "BGR8", "rgb8 ", "8UC99")
WHOLE = st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1))
STAMPS = st.builds(Time, sec=st.integers(-(2**31), 2**31 - 1), nanosec=st.integers(0, 2**32 - 1))
HEADERS = st.builds(Header, stamp=STAMPS, frame_id=st.text(max_size=20))
BYTES = st.one_of(st.binary(max_size=64), st.integers(0, 4000).map(lambda n: bytes(n)))
IMAGES = st.builds(
    Image,
    header=HEADERS,
    height=WHOLE,
    width=WHOLE,
    encoding=st.one_of(st.sampled_from(NAMES), st.text(max_size=12)),
    is_bigendian=st.integers(0, 255),
    step=WHOLE,
    data=BYTES.map(lambda data: array.array("B", data)),
)
GOOD = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8), (80, 60))
WHOLE_FILES = tuple(cv2.imencode(extension, GOOD)[1].tobytes() for extension in (".png", ".jpg"))
HOSTILE = (*hostile.ANIMATIONS.values(), *(data for name, data in hostile.FLOODS.items() if name != "zTXt"))


@st.composite
def spoiled_files(draw: st.DrawFn) -> bytes:
    """A PNG or JPEG with some bytes changed, and cut somewhere."""
    data = bytearray(draw(st.sampled_from(WHOLE_FILES)))
    for position in draw(st.lists(st.integers(0, len(data) - 1), max_size=4)):
        data[position] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


COMPRESSED = st.builds(
    CompressedImage,
    header=HEADERS,
    format=st.one_of(st.sampled_from(("jpeg", "png", "bgr8; jpeg compressed bgr8", "")), st.text(max_size=20)),
    data=st.one_of(BYTES, spoiled_files(), st.sampled_from(WHOLE_FILES), st.sampled_from(HOSTILE)),
)


def read(message: Image | CompressedImage) -> np.ndarray | None:
    """As the node reads it; None for what it refuses."""
    try:
        if isinstance(message, Image):
            check_image(message, MAX_PIXELS)
            return to_colour(message, "rgb")
        check_compressed(message, MAX_PIXELS)
        return decode(message, "rgb")
    except MalformedImageError as error:
        refused_with = str(error)
    # A log line is not the sender's to fill.
    assert len(refused_with) < 500, refused_with
    return None


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(IMAGES, COMPRESSED))
@example(Image(height=2**32 - 1, width=2**32 - 1, step=2**32 - 1, encoding="rgb8"))
@example(Image(height=1, width=1, step=3, encoding="yuv422", data=bytes(3)))
@example(Image(height=3, width=3, step=6, encoding="yuv422", data=bytes(18)))
@example(Image(height=3, width=3, step=3, encoding="nv21", data=bytes(9)))
@example(Image(height=1, width=1, step=1, encoding="bayer_rggb8", data=bytes(1)))
@example(Image(height=3, width=3, step=7, encoding="bayer_gbrg16", is_bigendian=1, data=bytes(21)))
@example(Image(height=2, width=2, step=2, encoding="nv12", data=bytes(6)))
@example(Image(height=1, width=3, step=3, encoding="nv24", data=bytes(9)))
@example(Image(height=2**31, width=2, step=2, encoding="nv24", data=bytes(9)))
def test_what_is_not_refused_is_a_colour_image_of_at_most_the_declared_limit(message: Image | CompressedImage) -> None:
    found = read(message)
    if found is None:
        return
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert found.shape[2] == 3
    assert 0 < found.shape[0] * found.shape[1] <= MAX_PIXELS
    if isinstance(message, Image):
        assert found.shape[:2] == (message.height, message.width)


def test_the_node_outlives_hundreds_of_bad_messages_and_publishes_for_none_of_them(
    bench: Bench, start_node: Callable[..., NodeProcess], brightness_bundle: Path
) -> None:
    node = start_node(bundle=brightness_bundle, max_image_pixels=MAX_PIXELS, diagnostics_period_s=0.1)
    bench.bring_up()
    sent = 0

    def send_bad(message: Image) -> None:
        nonlocal sent
        bench.send(message)
        sent += 1

    # Two ends of a topic do not find each other at the same moment: what the camera sends before is not counted.
    while bench.facts.get("sent", "0") == "0":
        send_bad(Image(encoding="rgb8"))
        bench.spin_for(0.3)
    unheard = sent - int(bench.facts["sent"])

    def account() -> None:
        bench.spin_until(lambda: bench.facts.get("sent") == str(sent - unheard), "the account")

    # One failure is enough: to look for a smaller one would take a node and a wait for each try.
    phases = (Phase.explicit, Phase.generate)

    @settings(deadline=None, max_examples=250, database=None, phases=phases, suppress_health_check=list(HealthCheck))
    @given(IMAGES)
    def send(message: Image) -> None:
        if read(message) is not None:
            return
        send_bad(message)
        bench.executor.spin_once(timeout_sec=0.0)
        if sent % 20 == 0:
            account()

    send()
    assert sent > 100
    account()
    counts = bench.accounting()
    assert counts["published"] == counts["failed"] == 0
    assert counts["malformed"] + counts["lost_in_transport"] + counts["replaced_unread"] == sent - unheard
    assert counts["malformed"] > 50
    assert all(messages == [] for messages in bench.received.values())
    bench.send(image(1, (60, 80)))
    bench.wait_for_outputs(1)
    assert bench.received["semantic"][0].header == image(1).header
    assert node.log.count("\n") < 40, node.log


def test_a_node_outlives_hostile_images_on_its_compressed_topic(
    bench: Bench, start_node: Callable[..., NodeProcess], brightness_bundle: Path
) -> None:
    node = start_node(bundle=brightness_bundle, image_transport="compressed", diagnostics_period_s=0.1)
    bench.camera = bench.node.create_publisher(CompressedImage, "/perception_node/input/image/compressed", RELIABLE)
    bench.bring_up()
    good = cv2.imencode(".png", GOOD)[1].tobytes()
    stamp = 0

    def send(data: bytes) -> None:
        nonlocal stamp
        stamp += 1
        stamp_now = bench.node.get_clock().now().to_msg()
        bench.camera.publish(
            CompressedImage(header=Header(stamp=stamp_now, frame_id=str(stamp)), format="png", data=data)
        )

    def account(name: str, at_least: int) -> None:
        bench.spin_until(lambda: int(bench.facts.get(name, "0")) >= at_least, f"{name} of {at_least}")

    while bench.facts.get("published", "0") == "0":
        send(good)
        bench.spin_for(0.3)
    for data in (*hostile.ANIMATIONS.values(), *hostile.FLOODS.values()):
        published = int(bench.facts["published"])
        send(data)
        account("published", published + 1)
    for data in (hostile.declared(40000, 40000), hostile.excess(), hostile.empty_blocks()):
        malformed = int(bench.facts.get("malformed", "0"))
        send(data)
        account("malformed", malformed + 1)
    published = int(bench.facts["published"])
    send(good)
    account("published", published + 1)
    assert node.process.poll() is None
