"""Checks that the returned frames are the requested ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

#: A frame is wrong when another matches better by more than this, of 255 on average: readers convert colours in ways that
#: differ, and neighbouring frames of a still scene cannot be told apart.
MARGIN = 0.25
#: Beyond this, of 255 on average, it is not a frame of the clip.
STRANGE = 24.0


@dataclass
class Verdict:
    """The result of a check."""

    checked: int = 0
    #: Requested and returned numbers of wrong frames; -1 for a frame that is not in the clip.
    wrong: list[tuple[int, int]] = field(default_factory=list)
    #: Number of missing frames; negative for extra ones.
    missing: int = 0
    #: What is wrong with the frames themselves.
    flaw: str | None = None
    #: Mean difference from the reference, of 255, over all correct frames.
    difference: float | None = None

    @property
    def is_right(self) -> bool:
        return not self.wrong and not self.missing and not self.flaw

    def words(self) -> str:
        """The result in one line."""
        if self.is_right:
            return "right"
        parts = [self.flaw] if self.flaw else []
        if self.wrong:
            asked, came = self.wrong[0]
            found = f"frame {came} for {asked}" if came >= 0 else f"no frame of the clip for {asked}"
            parts.append(f"{len(self.wrong)} of {self.checked} wrong, {found}")
        if self.missing:
            parts.append(f"{abs(self.missing)} {'missing' if self.missing > 0 else 'too many'}")
        return "wrong frames: " + "; ".join(parts)


#: Tolerance for colours that differ everywhere, by rounding or by another matrix, before they count as wrong.
MAX_OFFSET = 4.0


class Comparison:
    """Collects frames and compares them with the reference."""

    def __init__(self) -> None:
        self.verdict = Verdict()
        self._frames: list[tuple[np.ndarray, int, np.ndarray]] = []

    def add(self, found: np.ndarray, asked: int, reference: np.ndarray) -> None:
        """Takes the signature of a frame requested by number."""
        self._frames.append((found, asked, reference))

    def sized(self, found: tuple[int, int], wanted: tuple[int, int]) -> None:
        """Compares (width, height) of a frame."""
        if found != wanted:
            turned = " (not rotated)" if found == wanted[::-1] else ""
            self.verdict.flaw = f"frames are {found[0]}×{found[1]} instead of {wanted[0]}×{wanted[1]}{turned}"

    def missed(self, count: int) -> None:
        """Records missing frames; negative for extra ones."""
        self.verdict.missing += count

    def finish(self) -> Verdict:
        self.verdict.checked = len(self._frames)
        offset = self._offset()
        differences = [self._compare(*frame, offset) for frame in self._frames]
        right = [difference for difference in differences if difference is not None]
        if right:
            self.verdict.difference = round(float(np.mean(right)), 3)
        return self.verdict

    def _offset(self) -> np.ndarray:
        """The mean difference of all frames per channel, to separate colour differences from wrong frames."""
        gaps = [
            np.median(found - reference[asked], axis=0) for found, asked, reference in self._frames if asked < len(reference)
        ]
        return np.clip(np.median(gaps, axis=0), -MAX_OFFSET, MAX_OFFSET) if gaps else np.zeros(3)

    def _compare(self, found: np.ndarray, asked: int, reference: np.ndarray, offset: np.ndarray) -> float | None:
        """Records a wrong frame; returns the difference of a correct one."""
        distances = np.abs(reference - (found - offset)).mean(axis=(1, 2))
        best = float(distances.min())
        own = float(distances[asked]) if asked < len(reference) else np.inf
        if best > STRANGE:
            self.verdict.wrong.append((asked, -1))
        elif own > best + MARGIN:
            near = np.flatnonzero(distances <= best + MARGIN)
            self.verdict.wrong.append((asked, int(near[np.abs(near - asked).argmin()])))
        else:
            return float(np.abs(reference[asked] - found).mean())
        return None
