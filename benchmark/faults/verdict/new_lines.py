"""What a running process has added to a log."""

from __future__ import annotations

from pathlib import Path


class NewLines:
    """Reads logs that grow: each line once, and none before its end is written."""

    def __init__(self) -> None:
        self._read_to: dict[Path, int] = {}

    def of(self, path: Path) -> list[str]:
        """The lines that are new since the last call with this path; none where the file does not exist yet."""
        if not path.exists():
            return []
        begin = self._read_to.get(path, 0)
        with path.open("rb") as file:
            file.seek(begin)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read_to[path] = begin + len(whole) + len(end)
        return whole.decode().splitlines()
