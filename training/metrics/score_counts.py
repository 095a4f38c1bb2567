"""Numbers of inlier and anomaly pixels with each score, for any number of frames in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY
from training.metrics.anomaly_pixels import checked

PAGES = 1 << 16
PAGE_KEYS = 1 << 16
CHUNK_BINS = 1 << 18
SLICE = 1 << 17
"""Pixels counted at once, so that their indices stay in the processor's cache."""
CARRY_AT = 1 << 31
SORTED_PIXELS = 1 << 22
"""Up to this number, pixels are kept and sorted (20 MB)."""
FINER_BINS = 1 << 22
"""Additional bins (of 8 bytes) for the range of the first pixels."""


def _page_shifts() -> NDArray[np.int64]:
    """For each page, the number of bits by which its bins are coarser than float32.

    A page holds the keys with the same upper 16 bits: sign, exponent and 7 bits of the mantissa. Near 1, where the
    anomalies are, nothing is lost: bins are 2^-24 wide from 1/64 to 1 (as float32 from 1/2 on). Smaller scores keep
    2^-17 of their value, and scores from 1 to 64 (logits) keep 2^-22.
    """
    page = np.arange(PAGES)
    bits = np.where(page >= PAGES // 2, page - PAGES // 2, PAGES // 2 - 1 - page)
    exponent = (bits >> 7) - 127
    shift = np.clip(-1 - exponent, 0, 6)
    shift[exponent >= 0] = 1
    shift[exponent >= 6] = 6
    shift[(exponent < -64) | (exponent >= 32)] = 13
    return shift


_SHIFT = _page_shifts()


def _ordered_pages(keys: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Page and place in the page of float32 bit patterns, in the order of the numbers.

    The patterns of negative numbers are inverted, and those of positive numbers are above them.
    """
    upper, mask = np.uint32(16), np.uint32(PAGE_KEYS - 1)
    if (keys >> np.uint32(31)).any():
        keys = np.where(keys >> np.uint32(31), ~keys, keys | np.uint32(1 << 31))
        return keys >> upper, keys & mask
    return (keys >> upper) + np.uint32(PAGES // 2), keys & mask


def _shifts_for(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """`_page_shifts`, with 0 for the pages that hold most of these pixels, as far as `FINER_BINS` allow.

    So scores that lie close together are told apart as in float32, wherever they are.
    """
    held = np.bincount(_ordered_pages(values.view(np.uint32))[0], minlength=PAGES)
    pages = np.argsort(held)[::-1]
    pages = pages[(held[pages] > 0) & (_SHIFT[pages] > 0)]
    cost = PAGE_KEYS - (PAGE_KEYS >> _SHIFT[pages])
    shift = _SHIFT.copy()
    shift[pages[np.cumsum(cost) <= FINER_BINS]] = 0
    return shift


@dataclass(frozen=True)
class Counts:
    """Neighbouring bins that hold pixels, highest score first.

    Attributes:
        threshold: (n,) float32, lower edges of the bins. Pixels of a bin and of higher ones have score >= threshold.
        anomalies, inliers: (n,) int64 pixels in each bin.
    """

    threshold: NDArray[np.float32]
    anomalies: NDArray[np.int64]
    inliers: NDArray[np.int64]


class BinTable:
    """The counts of each bin and label.

    It reserves a gigabyte of addresses. The operating system gives memory only to the used ones: about 170 MB for
    scores in [0, 1].

    Args:
        shift: (65536,) number of bits by which the bins of each page are coarser than float32.
    """

    def __init__(self, shift: NDArray[np.int64] = _SHIFT) -> None:
        self._lay_out(shift)
        self._touched = np.zeros(PAGES, bool)
        self._carried: dict[int, int] = {}
        self._since_carry = 0

    def _lay_out(self, shift: NDArray[np.int64]) -> None:
        self._shift = shift
        self._start = np.concatenate([[0], np.cumsum(PAGE_KEYS >> shift)])
        self._shift_of_page = shift.astype(np.uint32)
        # zeros() leaves untouched pages unmapped; full() or a reshaped copy would not.
        self._table = np.zeros(2 * int(self._start[-1]), np.uint32)

    @property
    def shift(self) -> NDArray[np.int64]:
        """(65536,) number of bits by which the bins of each page are coarser than float32."""
        return self._shift

    def add(self, values: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
        """Add pixels: (n,) float32 without NaN and without -0.0, (n,) uint8 0 or 1."""
        if self._since_carry + values.size > CARRY_AT:
            self._carry()
        for start in range(0, values.size, SLICE):
            self._add(values[start : start + SLICE], labels[start : start + SLICE])
        self._since_carry += values.size

    def _add(self, values: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
        page, cell = self._cells(values)
        cell *= 2
        cell += labels
        self._touched[page] = True
        np.add.at(self._table, cell, np.uint32(1))

    def _cells(self, values: NDArray[np.float32]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Page and bin of each value."""
        page, place = _ordered_pages(values.view(np.uint32))
        place >>= self._shift_of_page[page]
        cell = self._start[page]
        cell += place
        return page, cell

    def _carry(self) -> None:
        """Move counts above half of uint32 to a dictionary, before they overflow."""
        for first, last in self._runs():
            cells = self._table[2 * first : 2 * last]
            for cell in np.flatnonzero(cells >= CARRY_AT):
                index = 2 * first + int(cell)
                self._carried[index] = self._carried.get(index, 0) + int(cells[cell])
                cells[cell] = 0
        self._since_carry = 0

    def merge(self, other: BinTable) -> None:
        """Add the counts of another table. Pages used by both get the coarser of their bins, so that ties stay ties."""
        self._carry()
        other._carry()
        if np.array_equal(self._shift, other._shift):
            for first, last in other._runs():
                self._table[2 * first : 2 * last] += other._table[2 * first : 2 * last]
            for index, count in other._carried.items():
                self._carried[index] = self._carried.get(index, 0) + count
            self._touched |= other._touched
            self._carry()
            return
        both = np.maximum(self._shift, other._shift)
        shift = np.where(self._touched & other._touched, both, np.where(other._touched, other._shift, self._shift))
        merged = BinTable(shift)
        for table in (self, other):
            for part in table.descending():
                merged._add_counts(part)
        self.__dict__.update(merged.__dict__)

    def _add_counts(self, part: Counts) -> None:
        """Add the bins of a table whose bins are at least as fine."""
        page, cell = self._cells(part.threshold + np.float32(0))
        self._touched[page] = True
        for label, counts in ((0, part.inliers), (1, part.anomalies)):
            many = counts >= CARRY_AT
            for index, count in zip((2 * cell[many] + label).tolist(), counts[many].tolist(), strict=True):
                self._carried[index] = self._carried.get(index, 0) + count
            np.add.at(self._table, 2 * cell[~many] + label, counts[~many].astype(np.uint32))
        self._carry()

    def _runs(self) -> list[tuple[int, int]]:
        """Ranges of bins [first, last) that may hold pixels, at most `CHUNK_BINS` long, lowest first."""
        pages = np.flatnonzero(self._touched)
        runs: list[tuple[int, int]] = []
        for page in pages.tolist():
            first, last = int(self._start[page]), int(self._start[page + 1])
            if runs and runs[-1][1] == first and last - runs[-1][0] <= CHUNK_BINS:
                runs[-1] = (runs[-1][0], last)
            else:
                runs.append((first, last))
        return runs

    def descending(self) -> Iterator[Counts]:
        """All bins that hold pixels, highest first, in chunks."""
        for first, last in reversed(self._runs()):
            cells = self._table[2 * first : 2 * last].astype(np.int64)
            for index, count in self._carried.items():
                if 2 * first <= index < 2 * last:
                    cells[index - 2 * first] += count
            inliers, anomalies = cells[0::2], cells[1::2]
            found = np.flatnonzero(inliers + anomalies)[::-1]
            bins = found + first
            page = np.searchsorted(self._start, bins, side="right") - 1
            keys = ((page << 16) | ((bins - self._start[page]) << self._shift[page])).astype(np.uint32)
            # Truncated keys are lower edges of negative bins as well: keys have the order of the numbers.
            bits = np.where(keys >> 31, keys & np.uint32((1 << 31) - 1), ~keys)
            threshold = bits.view(np.float32)
            # The lower edge of the bin of -infinity is a key of NaN.
            threshold[np.isnan(threshold)] = -np.inf
            yield Counts(
                threshold=threshold,
                anomalies=anomalies[found],
                inliers=inliers[found],
            )

    def __getstate__(self) -> dict[str, Any]:
        """For another process: the non-empty cells only."""
        self._carry()
        cells, counts = [], []
        for first, last in self._runs():
            run = self._table[2 * first : 2 * last]
            found = np.flatnonzero(run)
            cells.append(found + 2 * first)
            counts.append(run[found])
        state = {key: self.__dict__[key] for key in ("_touched", "_carried", "_since_carry")}
        state["shift"] = self._shift.astype(np.uint8)
        state["cells"] = (
            np.concatenate(cells) if cells else np.zeros(0, np.int64),
            np.concatenate(counts) if counts else np.zeros(0, np.uint32),
        )
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        cells, counts = state.pop("cells")
        self._lay_out(state.pop("shift").astype(np.int64))
        self.__dict__.update(state)
        self._table[cells] = counts


class ScoreCounts:
    """Pixels by score and label, over all frames.

    The first `SORTED_PIXELS` are kept and sorted: their curves are exact. Beyond, pixels are counted in bins, which are
    as fine as float32 near 1 and where most of the first pixels lie (`_page_shifts`, `_shifts_for`). Average precision
    and FPR95 then agree with sorting all pixels to 1e-6. The exception: later pixels that lie closer together than
    2^-17 of their value, in a range without any of the first pixels.

    >>> counts = ScoreCounts()
    >>> counts.update(np.array([[0.5, 0.5, 0.25]]), np.array([[1, 0, 0]], np.uint8))
    >>> [part] = counts.descending()
    >>> part.threshold.tolist(), part.anomalies.tolist(), part.inliers.tolist()
    ([0.5, 0.25], [1, 0], [1, 1])
    """

    def __init__(self) -> None:
        self._pixels: list[tuple[NDArray[np.float32], NDArray[np.uint8]]] = []
        self._bins: BinTable | None = None
        self.num_anomalies = 0
        self.num_inliers = 0

    def update(self, score: NDArray[Any], anomaly: NDArray[np.uint8]) -> None:
        """Add one frame: score (H, W) floating point (kept as float32), anomaly (H, W) uint8 0, 1 or 255.

        Raises:
            MetricInputError: see `anomaly_pixels.checked`.
        """
        checked(score, anomaly)
        counted = anomaly != IGNORE
        # Adding zero turns -0.0 into 0.0, which is the same score.
        values = score[counted].astype(np.float32) + np.float32(0)
        labels = anomaly[counted]
        anomalies = int(np.count_nonzero(labels))
        self.num_anomalies += anomalies
        self.num_inliers += values.size - anomalies
        if self._bins is not None:
            self._bins.add(values, labels)
        else:
            self._pixels.append((values, labels))
            self._count_if_many()

    def merge(self, other: ScoreCounts) -> None:
        """Add the frames of another process."""
        self.num_anomalies += other.num_anomalies
        self.num_inliers += other.num_inliers
        self._pixels += other._pixels
        if other._bins is not None:
            self._bins = self._bins or BinTable(other._bins.shift)
            self._bins.merge(other._bins)
        self._count_if_many()

    def _count_if_many(self) -> None:
        """Move the kept pixels into bins, if bins exist already or the pixels are too many to keep."""
        if self._bins is None and self.num_anomalies + self.num_inliers <= SORTED_PIXELS:
            return
        if self._bins is None:
            self._bins = BinTable(_shifts_for(np.concatenate([values for values, _ in self._pixels])))
        for values, labels in self._pixels:
            self._bins.add(values, labels)
        self._pixels = []

    def descending(self) -> Iterator[Counts]:
        """All scores or bins that hold pixels, highest first, in chunks."""
        if self._bins is not None:
            yield from self._bins.descending()
        elif self.num_anomalies + self.num_inliers:
            values, labels = (np.concatenate(parts) for parts in zip(*self._pixels, strict=True))
            order = np.argsort(values)[::-1]
            values, anomalies = values[order], labels[order] == ANOMALY
            last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
            both = np.diff(last, prepend=-1)
            true = np.diff(np.cumsum(anomalies)[last], prepend=0)
            yield Counts(threshold=values[last], anomalies=true, inliers=both - true)
