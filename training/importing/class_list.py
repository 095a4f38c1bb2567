"""The classes of an imported network: names, colours, and which are drivable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ros_ood_perception.bundle.description import UNLABELLED_ID, BundleClass
from ros_ood_perception.files.strict_yaml import read_yaml
from training.data.label_set import CAMVID, CITYSCAPES
from training.segmenter.networks.refusal import NetworkRefusedError

KNOWN = {known.name: known for known in (*CAMVID, *CITYSCAPES)}
"""Classes of roads, whose colours and drivability are taken where a name is the same."""


@dataclass(frozen=True)
class ClassOfFile:
    """One class in a file of `--classes`; its id is its place in the list.

    Attributes:
        colour: (R, G, B) 0 to 255; None: that of Cityscapes for its names, else one of a palette.
    """

    name: str
    colour: tuple[int, int, int] | None = None
    drivable: bool = False


@dataclass(frozen=True)
class ClassFile:
    """The contents of a file of `--classes`."""

    classes: tuple[ClassOfFile, ...]


def read_class_file(path: Path) -> tuple[BundleClass, ...]:
    """The classes of a YAML file `classes: [{name: road, colour: [128, 64, 128], drivable: true}, ...]`.

    Raises:
        FileNotFoundError: no such file.
        SchemaError: it does not match; the message names file, field, value and remedy.
    """
    found = read_yaml(path, ClassFile).classes
    return tuple(
        BundleClass(index, known.name, known.colour or colour_of(known.name, index), known.drivable)
        for index, known in enumerate(found)
    )


def named_classes(names: Sequence[str]) -> tuple[BundleClass, ...]:
    """Classes of which only the names are known."""
    return tuple(
        BundleClass(index, name, colour_of(name, index), name in KNOWN and KNOWN[name].drivable)
        for index, name in enumerate(names)
    )


def colour_of(name: str, index: int) -> tuple[int, int, int]:
    """The colour of a class: that of Cityscapes for its names, else one of the palette of PASCAL VOC.

    >>> colour_of("road", 7), colour_of("sofa", 1)
    ((128, 64, 128), (0, 128, 0))
    """
    if name in KNOWN:
        return KNOWN[name].colour
    number, channels = index + 1, [0, 0, 0]
    for shift in range(7, -1, -1):
        for channel in range(3):
            channels[channel] |= (number >> channel & 1) << shift
        number >>= 3
    return channels[0], channels[1], channels[2]


def chosen_classes(
    found: Sequence[BundleClass], given: Sequence[BundleClass] | None, drivable: Sequence[str], channels: int
) -> tuple[BundleClass, ...]:
    """The classes of the bundle.

    Args:
        found: by the source; may be empty.
        given: by `--classes`, which come first.
        drivable: names; empty keeps what the classes say.
        channels: of the network's output, K.

    Raises:
        NetworkRefusedError: too few or too many classes, other classes than channels, or no class of a name.
    """
    if not 2 <= channels < UNLABELLED_ID:
        raise NetworkRefusedError(
            f"the network has {channels} class channel(s) and a bundle has 2 to {UNLABELLED_ID - 1}; "
            + ("export both classes of a two-class network as two logits" if channels < 2 else "merge classes first")
        )
    classes = tuple(given or found)
    if not classes:
        raise NetworkRefusedError("the source does not name its classes; give --classes FILE with their names in order")
    if len(classes) != channels:
        raise NetworkRefusedError(
            f"{'--classes' if given else 'the source'} names {len(classes)} classes and the network has {channels} "
            "channels; give --classes FILE with one for each, in their order"
        )
    names = [known.name for known in classes]
    unknown = [name for name in drivable if name not in names]
    if unknown:
        raise NetworkRefusedError(f"--drivable {unknown[0]}: there is no such class; there are {', '.join(names)}")
    return tuple(replace(c, drivable=c.name in drivable) for c in classes) if drivable else classes
