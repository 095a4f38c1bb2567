"""A label set of one's own, in a YAML file: classes, what stands in the masks, folders and splits. No Python needed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ros_ood_perception.bundle.description import LONGEST_NAME, UNLABELLED_ID
from ros_ood_perception.files.strict_yaml import read_yaml

LABEL_SET_FILE = "classes.yaml"
"""Its name in the folder of the frames."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LabelSetClass:
    """One class.

    Attributes:
        colour: (R, G, B) 0 to 255, in pictures and in the bundle.
        ids: its values in the masks, 0 to 255.
        mask_colours: its colours (R, G, B) in the masks, for masks that hold colours.
        drivable: whether the vehicle drives on it.
    """

    name: str
    colour: Colour
    ids: tuple[int, ...] = ()
    mask_colours: tuple[Colour, ...] = ()
    drivable: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= LONGEST_NAME or not self.name.isprintable():
            raise ValueError(f"name is {self.name!r}; give 1 to {LONGEST_NAME} printable characters")
        _check_range("colour", self.colour)
        _check_range("ids", self.ids)
        for colour in self.mask_colours:
            _check_range("mask_colours", colour)


@dataclass(frozen=True)
class SplitFiles:
    """Where the frames of one split are. Folders are relative to `root`.

    Attributes:
        images, masks: folders.
        frames: file with the name of one frame a line; None: every image of the folder. A name has no ending. It may
            lead into a folder below `images`, with a slash.
    """

    images: str
    masks: str
    frames: str | None = None


@dataclass(frozen=True)
class LabelSetFile:
    """The contents of `classes.yaml`.

    Attributes:
        name: of the set, in records and tables.
        licence: of the frames; it becomes that of the weights.
        classes: in the order of their ids in the bundle.
        splits: by name.
        root: folder that all others are relative to, itself relative to this file.
        image_ending: what follows a frame's name in the name of its image; None: the ending of any picture.
        mask_ending: what follows a frame's name in the name of its mask.
        ignored_ids, ignored_colours: values of the masks without a class.
    """

    name: str
    licence: str
    classes: tuple[LabelSetClass, ...]
    splits: dict[str, SplitFiles]
    root: str = "."
    image_ending: str | None = None
    mask_ending: str = ".png"
    ignored_ids: tuple[int, ...] = ()
    ignored_colours: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        for field in ("name", "licence"):
            text = getattr(self, field)
            if not 1 <= len(text) <= LONGEST_NAME or not text.isprintable():
                raise ValueError(f"{field} is {text!r}; give 1 to {LONGEST_NAME} printable characters")
        if not 2 <= len(self.classes) < UNLABELLED_ID:
            raise ValueError(f"classes has {len(self.classes)} entries; 2 to {UNLABELLED_ID - 1} are possible")
        if not self.splits:
            raise ValueError("splits is empty; give at least one, such as train and val")
        if self.image_ending == "" or not self.mask_ending.lower().endswith(".png"):
            raise ValueError(
                f"image_ending is {self.image_ending!r} and mask_ending {self.mask_ending!r}; give the end of the "
                "files' names. A mask is a PNG, so its ending is .png or ends so"
            )
        _check_range("ignored_ids", self.ignored_ids)
        for colour in self.ignored_colours:
            _check_range("ignored_colours", colour)
        self._check_kind()
        _check_once("name", ((known.name, known.name) for known in self.classes))
        _check_once("colour", ((known.colour, known.name) for known in self.classes))
        _check_once("ids", self._values("ids", self.ignored_ids))
        _check_once("mask_colours", self._values("mask_colours", self.ignored_colours))

    @property
    def of_colours(self) -> bool:
        """Whether the masks hold colours."""
        return bool(self.classes[0].mask_colours)

    def _check_kind(self) -> None:
        for known in self.classes:
            if bool(known.ids) == bool(known.mask_colours):
                both = "both ids and mask_colours" if known.ids else "neither ids nor mask_colours"
                raise ValueError(
                    f"the class '{known.name}' has {both}; give ids if the masks hold numbers, or mask_colours if they "
                    "hold colours"
                )
            if bool(known.mask_colours) != self.of_colours:
                raise ValueError(
                    f"the class '{known.name}' has {'mask_colours' if known.mask_colours else 'ids'}, the class "
                    f"'{self.classes[0].name}' the other; give the same kind to all"
                )
        if self.ignored_ids and self.of_colours:
            raise ValueError(f"ignored_ids is {list(self.ignored_ids)}, but the masks hold colours: ignored_colours")
        if self.ignored_colours and not self.of_colours:
            raise ValueError(f"ignored_colours is {list(self.ignored_colours)}, but the masks hold ids: ignored_ids")

    def _values(self, field: str, ignored: Sequence[Hashable]) -> Iterable[tuple[Hashable, str]]:
        for known in self.classes:
            yield from ((value, known.name) for value in getattr(known, field))
        yield from ((value, f"ignored_{'ids' if field == 'ids' else 'colours'}") for value in ignored)


def label_set_path(given: Path) -> Path:
    """The YAML file of `--data folder:GIVEN`: the file itself, or `classes.yaml` in the folder."""
    return given if given.is_file() else given / LABEL_SET_FILE


def read_label_set(path: Path) -> LabelSetFile:
    """Read a label set.

    Raises:
        FileNotFoundError: no such file.
        SchemaError: it does not match the schema; the message names file, field, value and remedy.
    """
    return read_yaml(path, LabelSetFile)


def _check_range(field: str, values: Sequence[int]) -> None:
    if any(not 0 <= value <= 255 for value in values):
        raise ValueError(f"{field} is {list(values)}; numbers from 0 to 255 are possible")


def _check_once(field: str, values: Iterable[tuple[Hashable, str]]) -> None:
    """Refuse a value that two classes have. `values`: each with the name of its class."""
    owner: dict[Hashable, str] = {}
    for value, name in values:
        if value in owner:
            shown = list(value) if isinstance(value, tuple) else value
            raise ValueError(
                f"{field}: {shown!r} is there twice (of {owner[value]} and of {name}); each may be there once"
            )
        owner[value] = name
