"""Divides the clips of many videos among processes that train together."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence


class Run(NamedTuple):
    """Clips ``first`` to before ``last`` of a source; to its end by default."""

    source: int
    first: int = 0
    last: Optional[int] = None


def even_runs(order: Sequence[int], counts: Sequence[int], shards: int, number: int, even: str) -> List[Run]:
    """One of several shards with equally many clips: consecutive clips, so that a file can be divided between neighbours.

    Parameters
    ----------
    order : sequence of int
        Sources in the order of the epoch.
    counts : sequence of int
        Clips of each source, by its number.
    even : str
        "pad": the first clips come again at the end. "drop": the last ones are left out.
    """
    total = sum(counts[source] for source in order)
    each = total // shards if even == "drop" else -(-total // shards)
    runs: List[Run] = []
    if not total:
        return runs
    at, end = number * each, (number + 1) * each
    while at < end:
        # Beyond the end it starts again.
        wrapped, place = at % total, 0
        for source in order:
            inside = wrapped - place
            if inside < counts[source]:
                last = min(counts[source], inside + end - at)
                runs.append(Run(source, inside, last))
                at += last - inside
                break
            place += counts[source]
    return runs


def rank_counts(order: Sequence[int], counts: Sequence[int], world_size: int) -> List[int]:
    """Number of clips of each rank if whole sources are distributed."""
    return [sum(counts[source] for source in order[rank::world_size]) for rank in range(world_size)]


def checked_state(state: Dict[str, int], own: Dict[str, int]) -> None:
    """Compares a state with the data set that resumes from it.

    Raises
    ------
    ValueError
    """
    from .options import bad

    for name, value in own.items():
        if name not in state or (name in ("seed", "sources", "shards") and state[name] != value):
            raise bad("state", {name: state.get(name)}, f"the state of a stream of these sources and options: {name} is {value} here")
