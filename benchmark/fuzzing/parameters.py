"""Reads mutated parameter files: only documented errors may be raised.

    python -m benchmark.fuzzing.parameters --executions 100000 --seed 1

Each file is read as a replay and the node read it, turned into settings for recordings with one and two cameras, and
compared with the shipped bundle. Half of the files are texts with changed characters, tokens and lines, the others have
parameters with wrong values. It counts accepted files, files refused with a documented error, and faults: other errors
(crash), more than 5 s of CPU (hang), more than 1 GB (memory), and messages with control characters.

Exit code: 0, or 1 where there is a fault; its files are printed.
"""

from __future__ import annotations

import argparse
import math
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmark.process_memory import peak_resident_bytes
from ros_ood_perception.bundle.model_bundle import BundleError, read_bundle
from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.files.strict_yaml import SchemaError
from ros_ood_perception.number_arguments import LARGEST_SEED, whole
from ros_ood_perception.parameters.declarations import DECLARATIONS
from ros_ood_perception.parameters.parameter_file import of_recording, parameter_values
from ros_ood_perception.parameters.settings import ParameterError, fixed_settings, live_settings
from ros_ood_perception.shown_text import error_line

DOCUMENTED = (ParameterError, SchemaError, BundleError, OSError)
HANG_S = 5.0
MEMORY_MIB = 1024
LARGEST_MESSAGE = 5000
"""Characters of an error. A longer one repeats its input."""
SHOWN_FAULTS = 20
# libyaml's where PyYAML has it: making a file shall not take as long as reading it.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

TOKENS = (
    *("!!int ''", "!!float x", "!!bool 7", "!!timestamp x", "!!binary é", "!!null x", "!!set {a}", "!!omap [a]"),
    *("!!python/object:os.system x", "!!pairs [a]", "!!merge x", "!!value x", "!!str", "!", "!<tag:x> 1", "<<: *a"),
    *(
        "&a [*a]",
        "*a",
        "&a",
        "? ",
        ": ",
        "- ",
        "| ",
        "> ",
        "%YAML 9.9",
        "---",
        "...",
        "#",
        "@",
        "`",
        "\t",
        "\x00",
        "\x85",
    ),
    *(".nan", ".inf", "-.inf", "1e999", "-0", "0o17", "0x", "0b", "1_0", "1:60:60", "190:20:30.15", "2001-99-99"),
    *(
        "9" * 400,
        "9" * 5000,
        "-1",
        "1e-3",
        "~",
        "null",
        "true",
        "yes",
        "{}",
        "[]",
        "''",
        '"\\ud800"',
        '"\\x1b[2J"',
        "'",
    ),
    *("[" * 60, "{a: " * 60, "]" * 9, "\u202e", "\ufeff", "2001-01-01T00:00:00+99:99", "=", "a: b: c", "\r\n", "/**:"),
    *("ros__parameters:", "bundle: /dev/zero", "cameras: [a, a]", "use_sim_time: true", "qos_overrides: {}"),
)

SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 255, 257, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.0, -0.0, 0.5, -0.5, 1.0),
    *(
        math.nan,
        math.inf,
        -math.inf,
        1e308,
        5e-324,
        "",
        "a",
        "auto",
        "raw",
        "fp16",
        "all",
        "x" * 3000,
        "~",
        "~nobody/x",
    ),
    *("/dev/null", "a\nb", "\x1b[2J", "\u202e", "../..", "%s{}", b"bytes", "front", "input", "2001-01-01"),
)


def example(generator: random.Random) -> dict[str, Any]:
    """Parameters as they should be: some of the declared ones, with values of their range."""
    chosen: dict[str, Any] = {"bundle": "models/camvid_small"}
    for declaration in generator.sample(DECLARATIONS, generator.randint(0, 12)):
        value: Any = declaration.default_value
        if declaration.one_of:
            value = generator.choice(declaration.one_of)
        elif declaration.bounds is not None:
            value = generator.uniform(*declaration.bounds)
            first = (
                declaration.default_value[0]
                if isinstance(declaration.default_value, tuple)
                else declaration.default_value
            )
            value = int(value) if isinstance(first, int) else value
        if isinstance(declaration.default_value, tuple):
            value = [value] if not isinstance(value, tuple) else list(value)
        chosen[declaration.name] = value
    return chosen


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """`a.b: 1` as `a: {b: 1}`."""
    found: dict[str, Any] = {}
    for name, value in flat.items():
        level = found
        *groups, last = name.split(".")
        for group in groups:
            if not isinstance(level.get(group), dict):
                level[group] = {}
            level = level[group]
        level[last] = value
    return found


def strange(generator: random.Random, depth: int = 0) -> Any:
    """A wrong value."""
    kind = generator.random()
    if depth < 3 and kind < 0.15:
        return [strange(generator, depth + 1) for _ in range(generator.choice((0, 1, 2, 3, 65)))]
    if depth < 3 and kind < 0.25:
        return {generator.choice(SCALARS[:40]): strange(generator, depth + 1) for _ in range(generator.randint(0, 3))}
    return generator.choice(SCALARS)


def of_structure(generator: random.Random) -> bytes:
    """A file with valid YAML and wrong values."""
    flat = example(generator)
    for _ in range(generator.randint(1, 3)):
        declaration = generator.choice(DECLARATIONS)
        name, default = declaration.name, declaration.default_value
        first = default[0] if isinstance(default, tuple) else default
        kind = generator.random()
        if kind < 0.1:
            name = generator.choice((f"{name}.x", name.partition(".")[0], "", "a" * 500, "\x1b[2J"))
        # Of its type as often as not: what is right to the eye.
        alike = [value for value in SCALARS if type(value) is type(first)]
        value = generator.choice(alike) if kind < 0.5 else strange(generator)
        flat[name] = [value] * generator.choice((1, 2, 3)) if isinstance(default, tuple) and kind < 0.4 else value
    parameters: Any = nested(flat) if generator.random() < 0.8 else flat
    if generator.random() < 0.1:
        parameters[generator.choice((1, None, True, 2.5, ("a",)))] = strange(generator)
    top = {
        generator.choice(("/**", "/perception_node", "perception_node", "/other", 3, None)): {
            "ros__parameters": parameters
        }
    }
    if generator.random() < 0.05:
        top = strange(generator)
    text = yaml.dump(
        top, Dumper=_DUMPER, allow_unicode=generator.random() < 0.5, default_flow_style=generator.random() < 0.3
    )
    return text.encode("utf-8", "surrogatepass")


def of_text(generator: random.Random) -> bytes:
    """A file with characters, tokens and lines changed."""
    text = yaml.dump({"/**": {"ros__parameters": nested(example(generator))}}, Dumper=_DUMPER, default_flow_style=None)
    for _ in range(generator.choice((1, 1, 2, 4, 16))):
        place = generator.randrange(len(text) + 1)
        kind = generator.random()
        if kind < 0.4:
            # In the place of a value as often as anywhere.
            colon = text.find(": ", place)
            end = text.find("\n", colon)
            if colon >= 0 and end >= 0 and generator.random() < 0.6:
                text = f"{text[:colon]}: {generator.choice(TOKENS)}{text[end:]}"
            else:
                text = text[:place] + generator.choice(TOKENS) + text[place:]
        elif kind < 0.6:
            text = (
                text[:place]
                + chr(generator.choice((generator.randrange(128), generator.randrange(0xD800))))
                + text[place + 1 :]
            )
        elif kind < 0.75:
            text = text[:place] + text[place + generator.randint(1, 40) :]
        elif kind < 0.9:
            lines = text.split("\n")
            line = generator.choice(lines)
            lines.insert(generator.randrange(len(lines) + 1), " " * generator.randint(0, 6) + line.strip())
            text = "\n".join(lines)
        else:
            text = text[:place]
    data = text.encode("utf-8")
    if generator.random() < 0.1 and data:
        place = generator.randrange(len(data))
        data = data[:place] + generator.randbytes(generator.randint(1, 8)) + data[place + 1 :]
    return data


@dataclass
class Found:
    """The outcomes; a fault is a kind and the file."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[str, bytes]] = field(default_factory=list)
    slowest_s: float = 0.0

    def add(self, kind: str, data: bytes, fault: bool) -> None:
        """Count a file."""
        self.counts[kind] += 1
        if fault and len(self.faults) < SHOWN_FAULTS:
            self.faults.append((kind, data))


def run(executions: int, seed: int, advance: Callable[[], None] = lambda: None) -> Found:
    """Make and read files, the same for the same seed."""
    description = read_bundle(package_file("models/camvid_small")).description
    generator = random.Random(seed)
    found = Found()
    begun_mib = peak_resident_bytes() / (1 << 20)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vehicle.param.yaml"
        for _ in range(executions):
            data = (of_text if generator.random() < 0.5 else of_structure)(generator)
            file.write_bytes(data)
            # Of this process alone: what else runs makes no file hang.
            started = time.process_time()
            kind, fault = "taken", False
            try:
                values = parameter_values(file, (), "/perception_node")
                for cameras in (("",), ("front", "rear")):
                    settings = of_recording(values, cameras)
                    fixed_settings({**settings, "bundle": settings["bundle"] or "b"})
                    live = live_settings(settings)
                    live.pipeline_settings(description)
            except DOCUMENTED as error:
                kind = type(error).__name__
                line = error_line(error)
                if not line.isprintable() or len(str(error)) > LARGEST_MESSAGE:
                    kind, fault = "message", True
            except (Exception, RecursionError) as error:
                kind, fault = f"crash: {type(error).__name__}: {error_line(error)[:100]}", True
            seconds = time.process_time() - started
            found.slowest_s = max(found.slowest_s, seconds)
            found.add(kind, data, fault)
            if seconds > HANG_S:
                found.add("hang", data, True)
            advance()
    peak_mib = peak_resident_bytes() / (1 << 20)
    # By how much it grew, of all files together, and so of each.
    if peak_mib - begun_mib > MEMORY_MIB:
        found.add("memory", b"", True)
    found.counts["peak MiB"] = round(peak_mib)
    return found


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=whole(1, 10**9), default=10_000)
    parser.add_argument("--seed", type=whole(0, LARGEST_SEED), default=1)
    options = parser.parse_args()
    # A file that would take it all ends in a MemoryError here, which is a crash, and not in the machine.
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    started = time.monotonic()
    found = run(options.executions, options.seed)
    for kind, count in found.counts.most_common():
        print(f"{count:9d}  {kind}")
    seconds = time.monotonic() - started
    print(f"{options.executions} files of seed {options.seed}, {seconds:.0f} s, the slowest {found.slowest_s:.2f} s")
    for kind, data in found.faults:
        print(f"{kind}: {data[:2000]!r}")
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
