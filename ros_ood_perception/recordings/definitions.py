"""Compares the message definitions in a bag with the known ones.

Messages are always read as the known type. A bag's definition decides only whether they are read.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.recordings.chunked_file import StoredTopic
from ros_ood_perception.recordings.message_types import message_types, typestore_of_this_distribution

MAX_DEFINITION_BYTES = 1 << 18
MAX_DEPTH = 32
MAX_OWN_TYPES = 1000
"""Number of unknown types that are taken over into a copy."""
MAX_QUOTES = 100
"""Largest number of quotes in a definition. For each, the parser of `rosbags` searches the rest of the text."""
_TYPE_NAME = re.compile(r"[a-zA-Z]\w*/msg/[A-Za-z]\w*", re.ASCII)
_FIELD = re.compile(
    r"(?P<type>[a-zA-Z][\w/]*)(?:<=\d{1,9})?(?P<array>\[(?:<=)?(?P<size>\d{0,9})\])?\s+(?P<name>[a-zA-Z]\w*)(?:\s+\S.*)?",
    re.ASCII,
)
_CONSTANT = re.compile(r"[a-z]+\d{0,2}(?:<=\d+)?\s+[a-zA-Z]\w*\s*=.*", re.ASCII)
_BASE = frozenset(["bool", "byte", "char", "octet", "float32", "float64", "string", "wstring"]) | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_SAME = {"byte": "uint8", "char": "uint8", "octet": "uint8"}
_SHORT = {
    "time": "builtin_interfaces/msg/Time",
    "duration": "builtin_interfaces/msg/Duration",
    "Header": "std_msgs/msg/Header",
}
_EMPTY = "structure_needs_at_least_one_member"

Fields = tuple[tuple[str, str, str], ...]
"""Name, type and "", "[]" or "[N]" of each field. Bounds are left out: they do not change the serialised bytes."""


class DefinitionError(PerceptionError, ValueError):
    """A definition that cannot be used. The message says why."""


@lru_cache(maxsize=1)
def _of_ros1() -> Any:
    return get_typestore(Stores.ROS1_NOETIC)


class BagTypes:
    """The types of a bag's topics, by its own definitions.

    Args:
        topics: topics, as the files define them.
    """

    def __init__(self, topics: list[StoredTopic], is_ros1: bool) -> None:
        self.known = _of_ros1() if is_ros1 else message_types().typestore
        self._definitions: dict[str, dict[tuple[str, str], None]] = {}
        for topic in topics:
            found = self._definitions.setdefault(topic.type_name, {})
            found.update(dict.fromkeys((topic.encoding, text) for text in topic.definitions))
        self._problems: dict[str, str] = {}

    def problem(self, type_name: str) -> str:
        """Why messages of this type are not read; "" if they are."""
        if type_name not in self._problems:
            self._problems[type_name] = self._problem(type_name)
        return self._problems[type_name]

    def _problem(self, type_name: str) -> str:
        if type_name not in self.known.fielddefs:
            return "the type is not known here"
        found = []
        for encoding, text in self._definitions.get(type_name, {}):
            if encoding != "ros2msg" or not text:
                continue  # bags of Humble and earlier hold none; IDL is not compared
            try:
                own = parse_definition(text, type_name)
            except DefinitionError:
                continue  # damaged; another copy may be complete, and a message of another type has another length
            found.append(self._difference(type_name, own))
        return min(found, key=len, default="")

    def _difference(self, type_name: str, own: dict[str, Fields]) -> str:
        """The first difference to the known definition; "" for none. Types that it leaves out are the known ones."""
        waiting, done = [type_name], set()
        while waiting:
            name = waiting.pop()
            if name in done or name not in own:
                continue
            done.add(name)
            known = _known_fields(self.known, name)
            if known is None or len(known) != len(own[name]):
                return f"its definition of {name} has {len(own[name])} fields, not {len(known or ())}"
            for ours, theirs in zip(known, own[name], strict=True):
                if ours != theirs:
                    return f"its definition of {name} has '{_shown(theirs)}' for '{_shown(ours)}'"
            waiting += [kind for _, kind, _ in known if kind not in _BASE]
        return ""

    def copy_typestore(self) -> tuple[Any, set[str]]:
        """A typestore with the known types and the bag's own, and the names of the types whose messages can be copied.
        Only for writing definitions."""
        typestore = typestore_of_this_distribution()
        known = set(typestore.fielddefs)
        usable = {name for name in self._definitions if name in known and not self.problem(name)}
        own = [name for name in sorted(self._definitions) if name not in known][:MAX_OWN_TYPES]
        for name in own:
            for encoding, text in self._definitions[name]:
                try:
                    if encoding != "ros2msg":
                        raise DefinitionError("is not in ROS's own language")
                    defined = _closed(parse_definition(text, name), name, known)
                    if sum(text.count(quote) for quote in "'\"") > MAX_QUOTES:
                        raise DefinitionError("has too many quotes")
                    types = get_types_from_msg(text, name)
                    typestore.register({n: types[n] for n in defined if n not in typestore.fielddefs})
                except Exception:  # a type that cannot be written; the caller names its topics, which are not copied
                    continue
                usable.add(name)
                break
        return typestore, usable


def parse_definition(text: str, type_name: str) -> dict[str, Fields]:
    """Type to fields, of a definition in `ros2msg` and the types that it contains.

    Raises:
        DefinitionError: too long, or not such a definition.

    >>> parse_definition("float64 x\\nfloat64[<=4] ranges", "example_msgs/msg/Scan")
    {'example_msgs/msg/Scan': (('x', 'float64', ''), ('ranges', 'float64', '[]'))}
    """
    if len(text) > MAX_DEFINITION_BYTES:
        raise DefinitionError(f"has {len(text)} characters; at most {MAX_DEFINITION_BYTES} are read")
    found: dict[str, Fields] = {}
    name, fields = type_name, list[tuple[str, str, str]]()
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        if not line or set(line) == {"="} or line.startswith("@"):
            continue
        if line.startswith("MSG: "):
            found.setdefault(name, tuple(fields))
            name, fields = _full_name(line[5:].strip(), type_name), []
            continue
        if _CONSTANT.fullmatch(line):
            continue
        field = _FIELD.fullmatch(line)
        if field is None:
            raise DefinitionError(f"cannot be read at {line[:60]!r}")
        kind = field["type"]
        if kind not in _BASE:
            kind = _full_name(_SHORT.get(kind, kind), name)
        array = "" if field["array"] is None else "[]" if "<=" in field["array"] else f"[{field['size']}]"
        fields.append((field["name"], _SAME.get(kind, kind), array))
    found.setdefault(name, tuple(fields))
    return found


def _full_name(name: str, within: str) -> str:
    parts = name.split("/")
    if len(parts) == 1:
        parts = [within.split("/")[0], *parts]
    full = name if len(parts) == 3 else f"{parts[0]}/msg/{parts[-1]}"
    if len(parts) > 3 or not _TYPE_NAME.fullmatch(full):
        raise DefinitionError(f"names {name[:60]!r}, which is not a type")
    return full


def _known_fields(typestore: Any, name: str) -> Fields | None:
    if name not in typestore.fielddefs:
        return None
    found = []
    for field, (node, detail) in typestore.fielddefs[name][1]:
        if field == _EMPTY:
            continue
        array = ""
        if node in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            of_array = node == Nodetype.ARRAY
            (node, detail), size = detail
            array = f"[{size}]" if of_array else "[]"
        kind = detail if node == Nodetype.NAME else detail[0]
        found.append((field, _SAME.get(kind, kind), array))
    return tuple(found)


def _shown(field: tuple[str, str, str]) -> str:
    name, kind, array = field
    return f"{kind[:40]}{array} {name[:40]}"


def _closed(own: dict[str, Fields], type_name: str, known: set[str]) -> dict[str, Fields]:
    """The types that a definition needs. Each must be defined or known, and none may contain itself.

    Raises:
        DefinitionError: one is not, or does.
    """
    found: dict[str, Fields] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above or len(above) > MAX_DEPTH:
            raise DefinitionError(f"{name} is within itself, or nested too deep")
        if name in found or name in known:
            return
        if name not in own:
            raise DefinitionError(f"{name} is not defined")
        for _, kind, _ in own[name]:
            if kind not in _BASE:
                visit(kind, (*above, name))
        found[name] = own[name]

    visit(type_name, ())
    return found
