"""Ask the package index whether every locked wheel exists for Linux on aarch64, such as a Jetson.

    python requirements/aarch64.py vehicle                # for CPython 3.10, 3.11 and 3.12
    python requirements/aarch64.py vehicle demo 3.10      # for one

Nothing is installed. A wheel counts if it runs with glibc 2.28 and its hash is in the lock (torch has none there). A
package that is locked as source has no wheel, on any machine.

Exit code: 0 all exist; 1 one does not, and standard error names it; 2 bad input; 3 the index does not answer.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.markers import Marker

HERE = Path(__file__).resolve().parent
PYTHONS = ("3.10", "3.11", "3.12")
GLIBC = range(17, 29)
"""Minor versions of glibc 2: from that of manylinux2014 to one that each supported Ubuntu has."""
ANYWHERE = "mdurl"
"""A pure Python package of the lock. Without an answer on it, the index says nothing on the others."""


def locked(lock: Path, python: str) -> dict[str, str]:
    """Lines with version and hashes of a lock, by package: those that a Python on aarch64 installs."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "aarch64",
    }
    found = {}
    for text in re.split(r"\n(?=[a-z0-9])", lock.read_text().rstrip()):
        requirement, *hashes = text.split(" \\\n")
        name, _, marker = requirement.partition(" ; ")
        if not marker or Marker(marker).evaluate(environment):
            found[name.split("==")[0]] = " \\\n".join([name, *hashes])
    return found


def complaint(requirements: list[str], python: str) -> str:
    """What pip says against installing these on aarch64; empty if nothing."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text("\n".join(requirements))
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--disable-pip-version-check"]
        command += ["--ignore-installed", "--no-deps", "--only-binary=:all:", "-r", str(wanted)]
        # Of the Python that runs this. The locks say by markers which package is for which Python.
        command += ["--ignore-requires-python"]
        command += ["--retries", "1", "--timeout", "15", "--target", folder]
        command += ["--python-version", python, "--implementation", "cp", "--platform", "manylinux2014_aarch64"]
        for minor in GLIBC:
            command += ["--platform", f"manylinux_2_{minor}_aarch64"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    # From its last error on: the one before lists every version that there is.
    return " ".join(done.stderr[max(0, done.stderr.rfind("ERROR:")) :].split()) if done.returncode else ""


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    pythons = [argument for argument in arguments if argument in PYTHONS] or list(PYTHONS)
    locks = {name: HERE / f"{name}.txt" for name in arguments if name not in PYTHONS}
    unknown = [name for name, path in locks.items() if not path.is_file()]
    if unknown or not locks:
        there = ", ".join(sorted(path.stem for path in HERE.glob("*.txt")))
        print(f"requirements/: no lock is called {', '.join(unknown) or 'nothing'}; there are {there}", file=sys.stderr)
        return 2
    if said := complaint([locked(HERE / "vehicle.txt", PYTHONS[0])[ANYWHERE]], PYTHONS[0]):
        print(f"the package index does not answer ({said})", file=sys.stderr)
        return 3
    code = 0
    for name, lock in locks.items():
        for python in pythons:
            wanted = list(locked(lock, python).values())
            said = complaint(wanted, python)
            if said:
                print(f"requirements/{name}.txt, Python {python}, aarch64: {said}", file=sys.stderr)
                code = 1
            else:
                print(f"requirements/{name}.txt, Python {python}: {len(wanted)} wheels exist for aarch64")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
