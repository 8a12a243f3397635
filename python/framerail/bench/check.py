"""Are these the frames that were asked for?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

#: A frame is wrong when another matches better by more than this, of 255 on average: readers convert colours in ways that
#: differ, and neighbouring frames of a still scene cannot be told apart.
MARGIN = 0.25
#: Beyond this, of 255 on average, it is no frame of the clip, whatever the nearest.
STRANGE = 24.0


@dataclass
class Verdict:
    """What a check found."""

    checked: int = 0
    #: Frames that were asked for and those that came, for the wrong ones: number, or -1 for none of the clip.
    wrong: list[tuple[int, int]] = field(default_factory=list)
    #: Frames that should have come and did not, or came beyond.
    missing: int = 0
    #: What is wrong with the pictures themselves.
    flaw: str | None = None
    #: Mean difference from the reference, of 255, over all frames that are right.
    difference: float | None = None

    @property
    def is_right(self) -> bool:
        return not self.wrong and not self.missing and not self.flaw

    def words(self) -> str:
        """One line."""
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


#: A reader's colours may be off by as much as this everywhere, by rounding or by another matrix, before it counts against it.
MAX_OFFSET = 4.0


class Comparison:
    """Collects frames and compares them with the reference."""

    def __init__(self) -> None:
        self.verdict = Verdict()
        self._frames: list[tuple[np.ndarray, int, np.ndarray]] = []

    def add(self, found: np.ndarray, asked: int, reference: np.ndarray) -> None:
        """Takes the signature of a frame that was asked for by number."""
        self._frames.append((found, asked, reference))

    def sized(self, found: tuple[int, int], wanted: tuple[int, int]) -> None:
        """Compares (width, height) of a frame."""
        if found != wanted:
            turned = " (not rotated)" if found == wanted[::-1] else ""
            self.verdict.flaw = f"frames are {found[0]}×{found[1]} instead of {wanted[0]}×{wanted[1]}{turned}"

    def missed(self, count: int) -> None:
        """Notes frames that did not come; negative for frames beyond those asked for."""
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
        """By how much all frames together differ in each channel: told apart from frames that are others."""
        gaps = [
            np.median(found - reference[asked], axis=0) for found, asked, reference in self._frames if asked < len(reference)
        ]
        return np.clip(np.median(gaps, axis=0), -MAX_OFFSET, MAX_OFFSET) if gaps else np.zeros(3)

    def _compare(self, found: np.ndarray, asked: int, reference: np.ndarray, offset: np.ndarray) -> float | None:
        """Notes a frame when it is wrong; returns its difference otherwise."""
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
