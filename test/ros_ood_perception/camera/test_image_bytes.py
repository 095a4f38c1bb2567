"""Image bytes of strangers: what harms a decoder does not reach it, what a camera sends comes out as it was."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import hostile_images as hostile
import numpy as np
import pytest
from hostile_images import SIDE, STILL

from benchmark.fuzzing.image_corpus import ImageMutator, jpeg_file, jpeg_segments, png_file, png_header
from ros_ood_perception.camera.image_bytes import FILE_KINDS, check_image_bytes
from ros_ood_perception.camera.image_decoder import decode_colour, decode_labels
from ros_ood_perception.camera.raw_image import MalformedImageError

MAX_PIXELS = 1000 * 1000
ROOT = Path(__file__).resolve().parents[3]


def kind_of(data: bytes) -> str:
    with pytest.raises(MalformedImageError) as caught:
        decode_colour(data, MAX_PIXELS, FILE_KINDS)
    return caught.value.kind


def chunk_names(data: bytes) -> list[bytes]:
    position, names = 8, []
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        names.append(data[position + 4 : position + 8])
        position += 12 + length
    return names


def read_alone(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)


# -- PNG -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", hostile.ANIMATIONS)
def test_of_an_animated_png_only_the_still_picture_reaches_the_decoder(name: str) -> None:
    data = hostile.ANIMATIONS[name]
    assert chunk_names(check_image_bytes(data, MAX_PIXELS).rebuilt()) == [b"IHDR", b"IDAT", b"IEND"]
    assert np.array_equal(decode_colour(data, MAX_PIXELS), STILL)


@pytest.mark.parametrize("name", hostile.FLOODS)
def test_chunks_that_no_pixel_comes_from_do_not_reach_the_decoder(name: str) -> None:
    rebuilt = check_image_bytes(hostile.FLOODS[name], 4096 * 4096).rebuilt()
    assert chunk_names(rebuilt) == [b"IHDR", b"IDAT", b"IEND"]
    assert len(rebuilt) < 1000
    assert np.array_equal(read_alone(rebuilt), STILL)


def test_no_bomb_takes_more_memory_than_its_image_or_much_time() -> None:
    """All of them in one process that may have 200 MB more than it begins with, and 20 s of processor time."""
    program = """
import resource
from pathlib import Path
import hostile_images as hostile
from ros_ood_perception.camera.image_decoder import decode_colour
from ros_ood_perception.camera.raw_image import MalformedImageError
limit = int(Path("/proc/self/statm").read_text().split()[0]) * 4096 + 200 * 2**20
bombs = {
    "5 GB": hostile.declared(40000, 40000), "interlaced": hostile.declared(40000, 40000, 16, 6, 1),
    "wide": hostile.declared(2**31 - 1, 1, 1, 0), "high": hostile.declared(1, 2**31 - 1, 1, 0),
    "excess": hostile.excess(), "interlaced excess": hostile.excess(1), "empty blocks": hostile.empty_blocks(),
    "cut": hostile.declared(1000, 1000, 16, 6, 1, 1000),
    "scans": hostile.jpeg_with(before_end=hostile.of_kind(0xDA) * 5000),
    "tables": hostile.jpeg_with(before_frame=hostile.of_kind(0xC4) * 20000),
    "comments": hostile.jpeg_with(before_frame=hostile.segment(0xFE, b"") * 10**6),
    "applications": hostile.jpeg_with(before_frame=hostile.segment(0xE1, hostile.EXIF_WITH_ORIENTATION) * 20000),
    "fill bytes": hostile.jpeg_with(before_frame=b"\\xff" * 5 * 10**6),
    "restarts": hostile.jpeg_with(before_end=b"\\xff\\xd0" * 10**6),
}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
for name, data in bombs.items():
    try:
        print(name, "|", decode_colour(data, 1000 * 1000).shape)
    except MalformedImageError as error:
        print(name, "|", error.kind)
"""
    path = f"{ROOT}:{ROOT / 'test' / 'ros_ood_perception'}"
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = dict(line.split(" | ") for line in done.stdout.splitlines())
    picture = str(STILL.shape)
    assert found == {
        **dict.fromkeys(("5 GB", "interlaced", "wide", "high", "scans"), "image too large"),
        **dict.fromkeys(("excess", "interlaced excess", "empty blocks", "tables", "comments"), "corrupt data"),
        "cut": "data too short",
        "applications": "corrupt data",
        "fill bytes": picture,
        "restarts": picture,
    }


@pytest.mark.parametrize(
    ("chunks", "kind"),
    [
        ([hostile.IHDR, hostile.IEND], "data too short"),
        ([hostile.IDAT, hostile.IHDR, hostile.IEND], "corrupt data"),
        ([hostile.IHDR, hostile.IHDR, hostile.IDAT, hostile.IEND], "corrupt data"),
        ([hostile.IHDR, hostile.IDAT], "data too short"),
        ([hostile.IHDR, hostile.IDAT, (b"tEXt", b"a\x00"), hostile.IDAT, hostile.IEND], "corrupt data"),
        ([hostile.IHDR, (b"CgBI", bytes(4)), hostile.IDAT, hostile.IEND], "corrupt data"),
        ([hostile.IHDR, hostile.IDAT, (b"PLTE", bytes(3)), hostile.IEND], "corrupt data"),
        ([png_header(SIDE, SIDE, 8, 3), hostile.IDAT, hostile.IEND], "corrupt data"),
        ([png_header(SIDE, SIDE, 8, 3), (b"PLTE", bytes(4)), hostile.IDAT, hostile.IEND], "corrupt data"),
        ([png_header(SIDE, SIDE, 8, 3), (b"PLTE", bytes(771)), hostile.IDAT, hostile.IEND], "corrupt data"),
        ([png_header(SIDE, SIDE, 16, 3), (b"PLTE", bytes(3)), hostile.IDAT, hostile.IEND], "corrupt data"),
        ([png_header(SIDE, SIDE, 4, 2), hostile.IDAT, hostile.IEND], "corrupt data"),
        ([png_header(SIDE, SIDE, 8, 7), hostile.IDAT, hostile.IEND], "corrupt data"),
        ([png_header(SIDE, SIDE, 8, 2, 2), hostile.IDAT, hostile.IEND], "corrupt data"),
        ([png_header(0, SIDE, 8, 2), hostile.IDAT, hostile.IEND], "zero size"),
        ([png_header(2**32 - 1, SIDE, 8, 2), hostile.IDAT, hostile.IEND], "corrupt data"),
        ([png_header(SIDE, SIDE + 1, 8, 2), hostile.IDAT, hostile.IEND], "data too short"),
        ([png_header(SIDE, SIDE - 1, 8, 2), hostile.IDAT, hostile.IEND], "corrupt data"),
        ([hostile.IHDR, (b"IDAT", hostile.IDAT[1][:-1]), hostile.IEND], "data too short"),
        ([hostile.IHDR, (b"IDAT", hostile.IDAT[1][:-1] + b"\x00"), hostile.IEND], "corrupt data"),
        ([hostile.IHDR, (b"IDAT", zlib.compress(b"\x05" + hostile.rows_of(STILL)[1:])), hostile.IEND], "corrupt data"),
        ([hostile.IHDR, (b"IDAT", b"no stream"), hostile.IEND], "corrupt data"),
    ],
)
def test_a_png_that_is_none_is_refused_and_nothing_is_written_to_the_log(
    chunks: list[tuple[bytes, bytes]], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert kind_of(png_file(chunks)) == kind
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "chunk",
    [
        (b"gAMA", struct.pack(">I", 100000)),
        (b"sRGB", b"\x00"),
        (b"iCCP", b"icc\x00\x00" + zlib.compress(bytes(500))),
        (b"tEXt", b"a\x00b"),
        (b"eXIf", hostile.EXIF_WITH_ORIENTATION[6:]),
    ],
)
@pytest.mark.parametrize("crc", ["right", "wrong"])
def test_colour_profiles_and_texts_change_no_pixel_of_a_png_even_if_damaged(
    chunk: tuple[bytes, bytes], crc: str
) -> None:
    data = png_file([hostile.IHDR, chunk, hostile.IDAT, hostile.IEND])
    whole = hostile.png_chunk(*chunk)
    if crc == "wrong":
        data = data.replace(whole, whole[:-1] + bytes((whole[-1] ^ 1,)))
    assert np.array_equal(decode_colour(data + b"trailing bytes", MAX_PIXELS), STILL)


@pytest.mark.parametrize("chunk", [hostile.IHDR, hostile.IDAT, hostile.IEND])
def test_a_png_with_a_wrong_crc_in_what_decides_pixels_is_refused(chunk: tuple[bytes, bytes]) -> None:
    whole = hostile.png_chunk(*chunk)
    data = png_file([hostile.IHDR, hostile.IDAT, hostile.IEND])
    assert kind_of(data.replace(whole, whole[:-1] + bytes((whole[-1] ^ 1,)))) == "corrupt data"


# -- JPEG ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        hostile.jpeg_with(before_frame=hostile.segment(0xE1, hostile.EXIF_WITH_ORIENTATION)),
        hostile.jpeg_with(
            before_frame=hostile.segment(0xE1, b"Exif\x00\x00" + hostile.jpeg(np.zeros((64, 64, 3), np.uint8)))
        ),
        hostile.jpeg_with(before_frame=hostile.segment(0xE1, hostile.random_bytes(60000)) * 20),
        hostile.jpeg_with(before_frame=hostile.segment(0xE2, b"ICC_PROFILE\x00" + bytes(60000)) * 100),
        hostile.jpeg_with(before_frame=hostile.segment(0xFE, b"comment") * 500),
        hostile.jpeg_with(before_frame=hostile.segment(0xE0, b"JFXX\x00\x10" + hostile.jpeg())),
        hostile.jpeg_with(before_frame=b"\xff" * 9),
        hostile.jpeg_with(before_end=b"\xff" * 9),
        hostile.jpeg_with(before_end=hostile.segment(0xDC, struct.pack(">H", SIDE))),
        hostile.jpeg_with(before_end=hostile.segment(0xEE, b"Adobe\x00\x64\x00\x00\x00\x00\x00")),
        hostile.jpeg_with(after_end=bytes(64)),
        hostile.jpeg_with(after_end=b"\r\n--frame\r\n"),
        hostile.jpeg_with(after_end=hostile.jpeg()[20:200]),
        hostile.jpeg_with(after_end=b"\xff\xd9"),
        hostile.jpeg_with(after_end=hostile.jpeg(STILL[::-1])),
        b"\xff" * 4 + hostile.jpeg(),
        hostile.jpeg_with(before_frame=hostile.segment(0xE1, bytes(65533))),
        jpeg_file([(0xE1, hostile.EXIF_WITH_ORIENTATION, b""), *hostile.SEGMENTS]),
    ],
)
def test_what_a_camera_may_put_around_its_jpeg_changes_no_pixel(data: bytes) -> None:
    assert np.array_equal(decode_colour(data, MAX_PIXELS), read_alone(hostile.jpeg()))


FRAME = next(body for marker, body, _ in hostile.SEGMENTS if marker == 0xC0)
SCAN = next(body for marker, body, _ in hostile.SEGMENTS if marker == 0xDA)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (hostile.jpeg_with(before_end=hostile.of_kind(0xC0)), "corrupt data"),
        (hostile.jpeg_with(before_frame=hostile.segment(0xC0, FRAME)), "corrupt data"),
        (hostile.jpeg_with(before_frame=hostile.segment(0xC2, FRAME[:1] + b"\xff\xff" + FRAME[3:])), "corrupt data"),
        (hostile.jpeg_with(before_end=hostile.segment(0xDC, struct.pack(">H", 60000))), "corrupt data"),
        (hostile.jpeg_with(before_end=hostile.segment(0xDC, b"")), "corrupt data"),
        (hostile.jpeg_with(before_frame=b"\xff\xd8"), "corrupt data"),
        (hostile.jpeg_with(before_frame=b"\xff\x00"), "corrupt data"),
        (hostile.jpeg_with(before_frame=b"garbage"), "corrupt data"),
        (hostile.jpeg_with(before_frame=hostile.segment(0xF7, b"")), "corrupt data"),
        (hostile.jpeg_with(before_frame=hostile.segment(0xCC, b"\x00\x00")), "corrupt data"),
        (hostile.jpeg_with(before_frame=hostile.segment(0xC9, FRAME)), "corrupt data"),
        (hostile.jpeg_with(before_frame=hostile.segment(0xC4, b"\x00" + b"\xff" * 16 + bytes(4080))), "corrupt data"),
        (hostile.jpeg_with(before_frame=hostile.segment(0xC4, b"\x24" + bytes(16))), "corrupt data"),
        (hostile.jpeg_with(before_frame=hostile.segment(0xC4, b"\x00" + bytes(15))), "corrupt data"),
        (hostile.jpeg_with(before_frame=hostile.segment(0xDB, b"\x00" + bytes(63))), "corrupt data"),
        (hostile.jpeg_with(before_frame=hostile.segment(0xDD, b"\x00")), "corrupt data"),
        (hostile.jpeg_with(before_frame=b"\xff\xe1\x00\x00"), "corrupt data"),
        (hostile.jpeg_with(before_frame=b"\xff\xe1\xff\xff"), "data too short"),
        (hostile.jpeg_with(before_end=hostile.of_kind(0xDA) * 101), "image too large"),
        (hostile.jpeg_with(before_end=hostile.segment(0xDA, b"\x01\x09\x00\x00\x3f\x00")), "corrupt data"),
        (hostile.jpeg_with(before_end=hostile.segment(0xDA, SCAN[:-3] + b"\x00\x40\x00")), "corrupt data"),
        (hostile.jpeg().replace(FRAME, b"\x0c" + FRAME[1:]), "corrupt data"),
        (hostile.jpeg().replace(FRAME, FRAME[:7] + b"\x51" + FRAME[8:]), "corrupt data"),
        (hostile.jpeg().replace(FRAME, FRAME[:1] + bytes(2) + FRAME[3:]), "zero size"),
        (hostile.jpeg().replace(FRAME, FRAME[:1] + b"\xff\xff\xff\xff" + FRAME[5:]), "image too large"),
        (jpeg_file([part for part in hostile.SEGMENTS if part[0] != 0xDA]), "data too short"),
        (jpeg_file([part for part in hostile.SEGMENTS if part[0] not in (0xDA, 0xC0)]), "corrupt data"),
        (jpeg_file([part for part in hostile.SEGMENTS if part[0] != 0xC0]), "corrupt data"),
        (hostile.jpeg()[:-2], "data too short"),
    ],
)
def test_a_jpeg_that_is_none_or_that_changes_its_size_is_refused(data: bytes, kind: str) -> None:
    assert kind_of(data) == kind


def test_a_jpeg_with_a_component_that_no_scan_has_is_cut() -> None:
    several = ImageMutator(1, ("JPEG",)).jpegs[-3]
    without_last = several[: max(index for index, part in enumerate(several) if part[0] == 0xDA)]
    assert decode_colour(jpeg_file(several), MAX_PIXELS).ndim == 3
    assert kind_of(jpeg_file(without_last)) == "data too short"


def test_a_jpeg_of_a_usb_camera_needs_no_huffman_tables() -> None:
    """Motion JPEG leaves out the tables of the standard, which OpenCV's encoder uses too."""
    for image in (STILL, STILL[..., 0]):
        whole = hostile.jpeg(image)
        parts = [part for part in jpeg_segments(whole) if part[0] not in (0xC4, 0xE0)]
        motion = jpeg_file([(0xE0, b"AVI1\x00\x00" + bytes(8), b""), *parts])
        assert np.array_equal(decode_colour(motion, MAX_PIXELS), read_alone(whole))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\r\n" + hostile.jpeg(), "a JPEG begins only at byte 2"),
        (b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + hostile.jpeg(), "a JPEG begins only at byte 37"),
        (b"\x00\x00\x00\x01\x67\x42", r"an H\.264 or H\.265 stream"),
        (b"\x00\x00\x00\x20ftypavif", "an AVIF"),
        (b"\x00\x00\x00\x20ftypheic", "a HEIC"),
        (b"\x00\x00\x00\x20ftypisom", "an MP4 or MOV video"),
        (cv2.imencode(".webp", STILL)[1].tobytes(), "a WebP"),
        (b"GIF89a", "a GIF"),
        (b"P6\n16 16\n255\n", "a PNM"),
        (b"\xff\x0a" + bytes(20), "a JPEG XL"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ],
)
def test_what_is_not_read_is_refused_by_its_name(data: bytes, name: str) -> None:
    with pytest.raises(MalformedImageError, match=rf"\({name}.*; it must be JPEG or PNG"):
        decode_colour(data, MAX_PIXELS)


@pytest.mark.parametrize("filling", [b"", bytes(64), b"\xff", b"\r\n"])
@pytest.mark.parametrize("removed", [2, 40])
def test_a_jpeg_without_an_end_marker_is_cut_whatever_follows(removed: int, filling: bytes) -> None:
    """Whether its scan is whole could be known only after decoding, and a decoder fills what is missing with grey."""
    assert kind_of(hostile.jpeg()[:-removed] + filling) == "data too short"


# -- what is read as it was ------------------------------------------------------------------------------------------


def test_every_kind_of_image_comes_out_as_the_decoder_alone_reads_it() -> None:
    images = [data for data in ImageMutator(3, FILE_KINDS).valid() if b"acTL" not in data]
    assert len(images) > 120
    for number, data in enumerate(images):
        image = check_image_bytes(data, MAX_PIXELS, FILE_KINDS)
        alone = read_alone(data)
        assert np.array_equal(decode_colour(data, MAX_PIXELS, FILE_KINDS), alone), f"image {number}, {image}"


def test_a_minimal_image_is_left_as_it_is() -> None:
    for data in ImageMutator(4, FILE_KINDS).valid():
        rebuilt = check_image_bytes(data, MAX_PIXELS, FILE_KINDS).rebuilt()
        assert check_image_bytes(rebuilt, MAX_PIXELS, FILE_KINDS).rebuilt() == rebuilt


def test_an_image_is_cut_wherever_it_is_cut() -> None:
    for kind, data in (("JPEG", hostile.jpeg()), ("PNG", png_file([hostile.IHDR, hostile.IDAT, hostile.IEND]))):
        for end in range(12, len(data)):
            with pytest.raises(MalformedImageError):
                check_image_bytes(data[:end], MAX_PIXELS, (kind,))


def test_kinds_that_are_not_asked_for_are_refused_by_their_first_bytes() -> None:
    webp = cv2.imencode(".webp", STILL)[1].tobytes()
    with pytest.raises(MalformedImageError, match="must be JPEG or PNG"):
        decode_colour(webp, MAX_PIXELS)
    assert decode_colour(webp, MAX_PIXELS, FILE_KINDS).shape == STILL.shape


def test_a_jpegs_colours_are_told_by_the_marker_that_is_kept() -> None:
    """Adobe's marker says that the components are red, green and blue: without it they would be read as YCbCr."""
    segments = [part for part in jpeg_segments(hostile.jpeg()) if part[0] != 0xE0]
    adobe = (0xEE, b"Adobe\x00\x64\x00\x00\x00\x00\x00", b"")
    plain, marked = jpeg_file(segments), jpeg_file([adobe, *segments])
    assert not np.array_equal(read_alone(plain), read_alone(marked))
    assert np.array_equal(decode_colour(plain, MAX_PIXELS), read_alone(plain))
    assert np.array_equal(decode_colour(marked, MAX_PIXELS), read_alone(marked))


# -- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("colour_type", "depth"), [(3, 1), (3, 2), (3, 4), (3, 8), (0, 1), (0, 2), (0, 4), (0, 8)])
def test_labels_are_the_values_that_are_stored(colour_type: int, depth: int, interlaced: int) -> None:
    width = 8
    values = (np.arange(8 * width).reshape(8, width) % 2**depth).astype(np.uint8)
    if interlaced:
        # Values that are the same in every place, so that the passes need not be told apart.
        values[:] = 2**depth - 1
    bits = np.unpackbits(values[..., None], axis=2)[..., 8 - depth :]
    lines = np.packbits(bits.reshape(8, width * depth), axis=1)
    if interlaced:
        passes = ((1, 1), (1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8))
        raw = b"".join((b"\x00" + b"\xff" * ((columns * depth + 7) // 8)) * rows for rows, columns in passes)
    else:
        raw = b"".join(b"\x00" + line.tobytes() for line in lines)
    palette = [(b"PLTE", hostile.random_bytes(3 * 2**depth))] if colour_type == 3 else []
    chunks = [
        png_header(width, 8, depth, colour_type, interlaced),
        *palette,
        (b"IDAT", zlib.compress(raw)),
        hostile.IEND,
    ]
    assert np.array_equal(decode_labels(png_file(chunks), MAX_PIXELS), values)


def test_ids_of_16_bits_are_kept() -> None:
    values = np.array([[0, 255, 256, 65535]], np.uint16)
    found = decode_labels(cv2.imencode(".png", values)[1].tobytes(), MAX_PIXELS)
    assert found.dtype == np.uint16
    assert np.array_equal(found, values)


def test_colours_and_lossy_images_are_no_labels() -> None:
    for data, message in (
        (cv2.imencode(".png", STILL)[1].tobytes(), "one 8-bit value a pixel; this one is RGB"),
        (cv2.imencode(".png", np.dstack([STILL, STILL[..., 0]]))[1].tobytes(), "this one is RGBA"),
        (hostile.jpeg(STILL[..., 0]), "this file is a JPEG; a label file must be PNG"),
        (b"no image", "it must be PNG"),
    ):
        with pytest.raises(MalformedImageError, match=message):
            decode_labels(data, MAX_PIXELS)


def test_a_palette_that_contradicts_its_indices_is_refused_and_any_other_is_not_looked_at() -> None:
    indices = hostile.IHDR[1][:8] + bytes((8, 3, 0, 0, 0))
    rows = zlib.compress(b"".join(b"\x00" + bytes((row % 2,) * SIDE) for row in range(SIDE)))
    for colours, refused in (
        ((0, 0, 0, 255, 255, 255), False),
        ((255, 255, 255, 0, 0, 0), True),
        ((255, 0, 0, 0, 0, 255), False),
        ((9, 9, 9, 9, 9, 9), False),
        ((0, 0, 0, 1, 1, 1, 0, 0, 0), False),  # the third colour is not used
    ):
        data = png_file([(b"IHDR", indices), (b"PLTE", bytes(colours)), (b"IDAT", rows), hostile.IEND])
        if refused:
            with pytest.raises(MalformedImageError, match=r"contradicts its indices \(0 is grey 255, 1 is grey 0\)"):
                decode_labels(data, MAX_PIXELS)
        else:
            assert decode_labels(data, MAX_PIXELS)[:2, 0].tolist() == [0, 1]
