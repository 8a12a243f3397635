"""Batches of clips for training, loaded by threads of one process.

Public names are in ``framerail.torch``. Needs PyTorch.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple, Union

import torch
from torch.utils.data import default_collate, get_worker_info

from . import _framerail, arrays, transforms
from .augment import mixed_seed
from .lazy import np
from .options import OUTPUT_DEFAULTS, bad, choice, flag, reader_json, renamed, whole
from .progress import ProgressLine

if TYPE_CHECKING:
    from torch.utils.data import Sampler

    from .clip_data import ClipItem
    from .torch import ClipDataset
    from .types import Device

#: A batch of clips, by the names of items. Labels and columns that are not numbers are lists, as in PyTorch's ``default_collate``.
ClipBatch = Dict[str, torch.Tensor]
#: Axes and type of a clip's frames.
ClipShape = Tuple[Tuple[int, ...], torch.dtype]

_log = logging.getLogger("framerail.torch")

#: Errors of a source, as opposed to mistakes of the caller.
SOURCE_ERRORS = (OSError, ValueError, RuntimeError, MemoryError)
#: Handling of a clip that cannot be read.
POLICIES = ("raise", "skip", "replace")
#: Number of other clips tried instead of one that cannot be read.
_REPLACEMENTS = 16
#: Default bytes of batches in flight on a GPU.
_GPU_BYTES = 512 << 20
#: Maximum number of failed sources that are remembered by name.
_NAMED = 1000


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_here(asked: int) -> int:
    """Decoding threads of this process: its share of the cores if it is a DataLoader worker."""
    worker = get_worker_info()
    if asked > 0 or worker is None:
        return asked
    share = max(1, cores() // worker.num_workers)
    if worker.id == 0:
        _log.info("%d workers share %d cores: %d decoding threads each", worker.num_workers, cores(), share)
    return share


def shared(tensor: Any) -> torch.Tensor:
    """A tensor in shared memory. Its method has no types in PyTorch."""
    moved: torch.Tensor = tensor.share_memory_()
    return moved


class Request(NamedTuple):
    """A clip of a data set for the compiled part."""

    key: int
    source: Any
    name: str
    clip: int
    seed: int
    #: Size and modification time of the file, and its frame index.
    kept: Optional[Tuple[int, int, bytes]] = None


class Columns(NamedTuple):
    """Numbers, times and flags of the clips of a batch, one row per clip."""

    numbers: Any
    seconds: Any
    filled: Any
    is_made: Any


class ClipCore:
    """The threads that load clips; started in the process that uses them."""

    def __init__(self, options: Dict[str, Any], sampling: Dict[str, Any], augment: Any, extra: Dict[str, Any]):
        self._given = (options, sampling, augment, extra)
        self._compiled: Optional[_framerail.ClipLoader] = None
        self._next = itertools.count()
        self._shapes: Dict[int, ClipShape] = {}
        rest = transforms.split(renamed({name: options[name] for name in OUTPUT_DEFAULTS}))[1]
        if rest:
            raise bad("transforms", rest[0], "those that become options of the reader; call others on the loader's batches, or give augment")
        # On a GPU, PyTorch moves channels before frames.
        self._turns_axes = extra["channels_first"] and str(options["device"]) != "cpu"

    def __reduce__(self) -> Tuple[Any, ...]:
        return ClipCore, self._given

    def with_options(self, **changed: Any) -> ClipCore:
        """Another loader with other threads or number of open files."""
        options, sampling, augment, extra = self._given
        return ClipCore(options, sampling, augment, {**extra, **changed})

    @property
    def compiled(self) -> _framerail.ClipLoader:
        if self._compiled is None or not self._compiled.is_here():
            options, sampling, augment, extra = self._given
            extra = {**extra, "threads": threads_here(extra["threads"]), "channels_first": extra["channels_first"] and not self._turns_axes}
            inner = None if augment is None else augment._compiled
            self._compiled = _framerail.ClipLoader(reader_json(options), json.dumps(sampling), inner, json.dumps(extra))
        return self._compiled

    def close(self) -> None:
        self._compiled = None

    def shape(self, request: Optional[Request] = None) -> Optional[ClipShape]:
        """Axes and type of a clip: of every clip, or of this one's source if the options leave it open."""
        if request is not None and request.key in self._shapes:
            return self._shapes[request.key]
        found = self.compiled.shape(None if request is None else (request.source, request.name))
        if found is None:
            return None
        shape = json.loads(found)
        made = (tuple(shape["axes"]), getattr(torch, shape["dtype"]))
        if request is not None:
            self._shapes[request.key] = made
        return made

    @property
    def threads(self) -> int:
        """Number of decoding threads."""
        return int(json.loads(self.compiled.stats())["threads"])

    @property
    def device(self) -> torch.device:
        """Device of the clips."""
        return torch.device(self.compiled.device())

    def memory(self, count: int, shape: ClipShape, pin_memory: bool = False) -> torch.Tensor:
        """Memory for this many clips: on the GPU that makes them, else on the host. In a worker it is shared memory, so that the
        parent does not copy it."""
        axes, dtype = shape
        if self.device.type != "cpu":
            return torch.empty((count, *axes), dtype=dtype, device=self.device)
        made = torch.empty((count, *axes), dtype=dtype, pin_memory=pin_memory)
        return shared(made) if get_worker_info() is not None else made

    def submit(self, requests: List[Request], shape: ClipShape, out: torch.Tensor) -> Ticket:
        """Starts making clips of one shape in the rows of ``out``."""
        axes, dtype = shape
        number, name = next(self._next), str(dtype).rpartition(".")[2]
        with arrays.on_device_of(out):
            items = [request[:] for request in requests]
            self.compiled.submit(number, items, out, list(axes), name, arrays.current_stream(out))
        return Ticket(number, len(requests), shape, out)

    def wait(self, ticket: Ticket) -> Made:
        """The clips of a batch, their properties, and those that failed."""
        frames = ticket.frames
        with arrays.on_device_of(frames):
            found, failed = self.compiled.wait(ticket.number, arrays.current_stream(frames))
        if self._turns_axes:
            frames = frames.transpose(-4, -3).contiguous()

        def column(name: str, dtype: Any) -> torch.Tensor:
            return torch.from_numpy(np.frombuffer(bytearray(found[name]), dtype).reshape(ticket.clips, -1))

        filled, is_made = column("filled", np.int64)[:, 0], column("is_made", np.uint8)[:, 0]
        return Made(frames, Columns(column("numbers", np.int64), column("seconds", np.float64), filled, is_made), failed)


class Ticket(NamedTuple):
    """A batch being made."""

    number: int
    clips: int
    shape: ClipShape
    frames: torch.Tensor


class Made(NamedTuple):
    """A finished batch."""

    frames: torch.Tensor
    columns: Columns
    failed: List[Tuple[int, Exception]]


class ClipLoader:
    """Batches of a ``ClipDataset``, used like PyTorch's ``DataLoader`` and made by the threads of one process.

    Clips of a batch and of those ahead are decoded side by side on all cores, each written straight to its place in the batch and
    augmented there. Order, clips and pixels depend on the data set's seed and the epoch alone: not on threads, ``prefetch``, or on
    which clip is decoded first.

    Parameters
    ----------
    dataset : ClipDataset
    batch_size : int
        Clips in a batch.
    shuffle : bool
        Shuffle clips by the data set's seed and the epoch.
    sampler : iterable of int, optional
        PyTorch's samplers, ``DistributedSampler`` among them; its ``set_epoch`` is called. An order that depends on PyTorch's global
        generator cannot be resumed: give the sampler a generator with a seed.
    batch_sampler : iterable of lists of int, optional
        Instead of ``batch_size``, ``shuffle``, ``sampler`` and ``drop_last``.
    drop_last : bool
        Leave out a last batch that is smaller.
    prefetch : int, optional
        Batches made ahead; by default enough for two clips per thread, or eight on a GPU.
    memory : int, optional
        Bytes that batches under way may take together; bounds ``prefetch``, but one batch is always made. On a GPU, 512 MiB by default
        where ``prefetch`` is not given.
    threads : int
        Decoding threads; 0 = one per core, or, with a data set on a GPU, enough to keep its engines busy.
    helpers : int, optional
        With a data set on a GPU: threads that decode a share of the clips on cores, upload them as decoded and have the GPU convert
        them; by default three of four cores, 0 for none. They take the clips that are needed last, if these will be ready in
        time, estimated from the time per pixel of earlier clips; ``stats["clips_by_cores"]`` counts them.
    max_open : int, optional
        Files kept open for their next clip; by default two per thread, at least the data set's ``max_open``.
    pin_memory : bool
        Put batches into page-locked memory.
    device : str or torch.device, optional
        Copy batches to this device, asynchronously where they are page-locked.
    errors : str, optional
        "raise"; "skip", which makes the batch smaller; or "replace" by another clip, drawn by the seed. The data set's by default.
        Skipped and replaced clips are logged, counted in ``stats`` and named in ``failures``.
    progress : bool
        Draw a progress line on standard error.

    Notes
    -----
    A batch is a dict as ``collate`` makes it of the data set's items. After a whole pass the epoch goes up by one, unless ``set_epoch``
    was called; an unfinished pass starts again. The data set's ``transform`` runs in the calling process and thread.

    Examples
    --------
    >>> import framerail as fr
    >>> data = fr.torch.ClipDataset(paths, labels=labels, frames_per_clip=16, stride=4, size=(112, 112))  # doctest: +SKIP
    >>> loader = fr.torch.ClipLoader(data, batch_size=8, shuffle=True, pin_memory=True)  # doctest: +SKIP
    >>> for epoch in range(10):  # doctest: +SKIP
    ...     loader.set_epoch(epoch)
    ...     for batch in loader:
    ...         train(batch["frames"], batch["label"])
    """

    def __init__(
        self,
        dataset: ClipDataset,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Union[None, Iterable[int], Sampler[ClipItem]] = None,
        batch_sampler: Optional[Iterable[List[int]]] = None,
        *,
        drop_last: bool = False,
        prefetch: Optional[int] = None,
        memory: Optional[int] = None,
        threads: int = 0,
        helpers: Optional[int] = None,
        max_open: Optional[int] = None,
        pin_memory: bool = False,
        device: Optional[Device] = None,
        errors: Optional[str] = None,
        progress: bool = False,
    ) -> None:
        if not hasattr(dataset, "_request"):
            raise bad("dataset", dataset, "a framerail.torch.ClipDataset")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError("option 'batch_sampler' decides batches alone: leave out batch_size, shuffle, sampler and drop_last")
        if sampler is not None and shuffle:
            raise ValueError("options 'sampler' and 'shuffle' exclude each other")
        self.dataset = dataset
        self.batch_size = whole("batch_size", batch_size, 1)
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.drop_last = flag("drop_last", drop_last)
        self.pin_memory = flag("pin_memory", pin_memory)
        self.device = None if device is None else torch.device(device)
        self._shuffle = flag("shuffle", shuffle)
        self._errors = dataset._errors if errors is None else choice("errors", errors, POLICIES)
        self._memory = None if memory is None else whole("memory", memory, 1)
        threads = whole("threads", threads, 0)
        self._threads = threads or cores()
        self._prefetch = None if prefetch is None else whole("prefetch", prefetch, 1)
        kept = max(2 * self._threads, dataset._max_open) if max_open is None else whole("max_open", max_open, 0)
        helpers = None if helpers is None else whole("helpers", helpers, 0)
        self._core = dataset._core.with_options(threads=threads, helpers=helpers, max_open=kept)
        self._progress = flag("progress", progress)
        #: Failures: the last message of each source, by its name.
        self.failures: Dict[str, str] = {}
        #: Of the last batch: "wait_seconds", "clips", "failed", "bytes".
        self.step: Dict[str, float] = {}
        self._counts = {"batches": 0, "clips_skipped": 0, "clips_replaced": 0, "wait_seconds": 0.0, "running_seconds": 0.0}
        # Number of batches delivered in this epoch, and where the next pass begins.
        self._given = self._start = 0
        self._is_over = False
        self._running: Optional[_Pass] = None

    def __len__(self) -> int:
        """Batches of an epoch."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        clips = len(self.dataset if self.sampler is None else self.sampler)  # type: ignore[arg-type]
        return clips // self.batch_size if self.drop_last else -(-clips // self.batch_size)

    @property
    def epoch(self) -> int:
        """The epoch, from 0: the data set's."""
        return self.dataset.epoch

    def set_epoch(self, epoch: int) -> None:
        """Begins an epoch from its first batch; the data set's and the sampler's ``set_epoch`` are called."""
        self._end_pass()
        self._is_over = False
        self._given = self._start = 0
        self._begin(epoch)

    def _begin(self, epoch: int) -> None:
        self.dataset.set_epoch(epoch)
        for sampler in (self.sampler, self.batch_sampler, getattr(self.batch_sampler, "sampler", None)):
            begin = getattr(sampler, "set_epoch", None)
            if begin is not None:
                begin(epoch)

    def state_dict(self) -> Dict[str, int]:
        """The position of this loader: load it into a new one, with the same data set and options, to continue with the next batch."""
        return {"epoch": self.epoch, "batch": self._given, "seed": self.dataset.seed, "clips": len(self.dataset), "batch_size": self.batch_size}

    def load_state_dict(self, state: Dict[str, int]) -> None:
        """Continues at the position of another loader.

        Raises
        ------
        ValueError
            When the data set or batches differ from those of the state.
        """
        for name, value in self.state_dict().items():
            if name not in state or (name not in ("epoch", "batch") and state[name] != value):
                raise bad("state", {name: state.get(name)}, f"the state of a loader of this data set: {name} is {value} here")
        self.set_epoch(state["epoch"])
        self._given = self._start = whole("batch", state["batch"], 0)

    def __iter__(self) -> Iterator[ClipBatch]:
        """Iterates over the epoch from its first batch, or from the position of a loaded state. A complete pass starts the next epoch."""
        self._end_pass()
        if self._is_over:
            self.set_epoch(self.epoch + 1)
        self._given, self._start = self._start, 0
        self._running = _Pass(self)
        return self._running

    def close(self) -> None:
        """Ends the threads and releases the batches made ahead."""
        self._end_pass()
        self._core.close()

    def __repr__(self) -> str:
        size = "" if self.batch_sampler is not None else f", batch_size={self.batch_size}"
        return f"ClipLoader({self.dataset!r}{size})"

    def __enter__(self) -> ClipLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def stats(self) -> Dict[str, Any]:
        """Counters over all epochs.

        "batches", "clips", "clips_failed", "clips_skipped", "clips_replaced", "clips_shared" (decoded together with another clip),
        "files_opened", "files_reused", "bytes" (written to batches), "syncs" (times that a thread waited for the GPU), "wait_seconds" (that the caller waited for batches), "busy_share"
        (of the threads' time between the first batch asked for and the last), "opening_seconds", and under "reader" what was decoded.
        """
        found = json.loads(self._core.compiled.stats())
        running = self._counts["running_seconds"] * found["threads"]
        return {**found, **self._counts, "busy_share": min(found["busy_seconds"] / running, 1.0) if running else 0.0}

    def _end_pass(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None

    def _batches(self) -> Iterator[List[int]]:
        """The indices of each batch of the epoch."""
        if self.batch_sampler is not None:
            yield from self.batch_sampler
            return
        order: Any
        if self.sampler is not None:
            order = self.sampler
        elif self._shuffle:
            generator = torch.Generator().manual_seed(mixed_seed(self.dataset.seed, self.epoch) % 2**63)
            order = torch.randperm(len(self.dataset), generator=generator).tolist()
        else:
            order = range(len(self.dataset))
        rest = iter(order)
        while batch := list(itertools.islice(rest, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def _ahead(self, batch_bytes: int) -> int:
        """Maximum number of batches in flight."""
        is_on_host = self._core.device.type == "cpu"
        threads = self._core.threads
        ahead = self._prefetch
        if ahead is None:
            # The more clips wait on a GPU, the more of them share a decode, and the longer CPU cores may take for theirs.
            ahead = -(-(2 if is_on_host else 8) * threads // self.batch_size)
            if not is_on_host and self._memory is None:
                ahead = min(ahead, max(_GPU_BYTES // max(batch_bytes, 1) - 1, -(-threads // self.batch_size)))
        if self._memory is not None:
            ahead = min(ahead, self._memory // max(batch_bytes, 1) - 1)
        return max(ahead, 0) + 1

    def _failed(self, index: int, error: Exception, what: str) -> None:
        name = str(self.dataset.sources[index // self.dataset.num_clips])
        if len(self.failures) < _NAMED:
            self.failures[name] = str(error)
        self._counts[what] += 1
        self.dataset._note_failure(name, error, what.rpartition("_")[2])


class _Batch(NamedTuple):
    """A batch in flight."""

    indices: List[int]
    ticket: Ticket


class _Pass(Iterator[ClipBatch]):
    """One pass through an epoch, from the loader's position."""

    def __init__(self, loader: ClipLoader):
        self._loader = loader
        self._batches = itertools.islice(loader._batches(), loader._given, None)
        self._under_way: List[_Batch] = []
        self._is_closed = False
        self._began = time.monotonic()
        self._marked = self._began
        self._line = ProgressLine(sys.stderr) if loader._progress else None
        self._shape: Optional[ClipShape] = None
        self._has_given = False

    def _shape_of(self, indices: List[int]) -> ClipShape:
        """Shape of all clips: from the options, else from the first readable source."""
        core, dataset = self._loader._core, self._loader.dataset
        shape, first = core.shape(), None
        for index in itertools.chain(indices, range(0, len(dataset), dataset.num_clips)):
            if shape is not None:
                return shape
            try:
                shape = core.shape(dataset._request(index))
            except SOURCE_ERRORS as error:
                first = first or error
        if shape is not None:
            return shape
        raise first or ValueError("the data set is empty")

    def _fill(self) -> None:
        while True:
            if self._shape is not None:
                each = int(np.prod(self._shape[0])) * torch.empty((), dtype=self._shape[1]).element_size() * self._loader.batch_size
                if len(self._under_way) >= self._loader._ahead(each):
                    return
            indices = next(self._batches, None)
            if indices is None:
                return
            indices = list(indices)
            if self._shape is None:
                self._shape = self._shape_of(indices)
            core, shape = self._loader._core, self._shape
            frames = core.memory(len(indices), shape, self._loader.pin_memory)
            requests = [self._loader.dataset._request(index) for index in indices]
            self._under_way.append(_Batch(indices, core.submit(requests, shape, frames)))

    def __next__(self) -> ClipBatch:
        loader = self._loader
        while not self._is_closed:
            self._fill()
            if not self._under_way:
                loader._is_over = True
                self.close()
                break
            batch = self._under_way.pop(0)
            began = time.monotonic()
            try:
                made = self._finish(batch)
            except BaseException:
                self.close()
                raise
            waited = time.monotonic() - began
            loader._given += 1
            # Trainers that know the number of batches take no more than that: the pass ends with the last batch.
            loader._is_over = not self._under_way
            self._note(batch, waited)
            if made is not None:
                self._has_given = True
                return made
        raise StopIteration

    def _finish(self, batch: _Batch) -> Optional[ClipBatch]:
        loader, dataset = self._loader, self._loader.dataset
        frames, columns, failed = loader._core.wait(batch.ticket)
        # Free room is used at once: the threads continue while the caller works.
        self._fill()
        indices = list(batch.indices)
        for place, error in failed:
            if loader._errors == "raise" or not isinstance(error, SOURCE_ERRORS):
                raise error
            if loader._errors == "replace":
                loader._failed(indices[place], error, "clips_replaced")
                indices[place], other = replacement(dataset, loader._core, indices[place], batch.ticket.shape, error)
                frames[place] = other.frames[0]
                for column, value in zip(columns, other.columns):
                    column[place] = value[0]
            else:
                loader._failed(indices[place], error, "clips_skipped")
        kept = range(len(indices))
        if not bool(columns.is_made.all()):
            kept = columns.is_made.nonzero()[:, 0]
            if not len(kept):
                if not self._has_given and len(loader.failures) >= len(dataset.sources):
                    raise failed[0][1]
                return None
            frames = frames[kept.to(frames.device)]
            frames = frames.pin_memory() if loader.pin_memory and not frames.is_cuda else frames
            columns = Columns(*(column[kept] for column in columns))
            kept = kept.tolist()
        heard = dataset._heard([indices[place] for place in kept], columns.seconds[:, 0].tolist())
        rest = default_collate([{**dataset._about(indices[place]), **sound} for place, sound in zip(kept, heard)])
        if dataset.transform is not None:
            frames = default_collate([dataset.transform(clip) for clip in frames])
        if loader.device is not None:
            frames = frames.to(loader.device, non_blocking=loader.pin_memory)
        known = {"numbers": columns.numbers, "seconds": columns.seconds, "filled": columns.filled}
        loader.step = {"failed": len(failed), "bytes": frames.numel() * frames.element_size(), "clips": len(kept)}
        return {"frames": frames, **known, **rest}

    def _note(self, batch: _Batch, waited: float) -> None:
        loader, now = self._loader, time.monotonic()
        loader._counts["batches"] += 1
        loader._counts["wait_seconds"] += waited
        loader._counts["running_seconds"] += now - self._marked
        self._marked = now
        loader.step["wait_seconds"] = waited
        if self._line is not None:
            elapsed = max(now - self._began, 1e-9)
            of = f"/{len(loader)}" if hasattr(loader.batch_sampler or loader, "__len__") else ""
            share = min(loader._counts["wait_seconds"] / max(loader._counts["running_seconds"], 1e-9), 1.0)
            skipped = f", {len(loader.failures)} files failed" if loader.failures else ""
            rate = loader.batch_size / elapsed * (self._count())
            self._line.show(f"epoch {loader.epoch}: {loader._given}{of} batches, {rate:.1f} clips/s, waiting {100 * share:.0f}%{skipped}")

    def _count(self) -> int:
        self._done = getattr(self, "_done", 0) + 1
        return self._done

    def close(self) -> None:
        """Discards the batches made ahead."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._under_way:
            self._loader._core.compiled.forget()
            self._under_way.clear()
        if self._line is not None:
            self._line.close()


def replacement(dataset: Any, core: ClipCore, index: int, shape: ClipShape, error: Exception) -> Tuple[int, Made]:
    """A replacement for an unreadable clip, drawn by the seed: its index, and a batch with it alone."""
    for attempt in range(_REPLACEMENTS):
        other = mixed_seed(dataset.seed, dataset.epoch, index, attempt) % len(dataset)
        made = core.wait(core.submit([dataset._request(other)], shape, core.memory(1, shape)))
        if not made.failed:
            return other, made
        if not isinstance(made.failed[0][1], SOURCE_ERRORS):
            raise made.failed[0][1]
    raise error


class VideoAverage:
    """Averages a model's outputs for several clips of a video: for validation with uniform clips and crops.

    Examples
    --------
    >>> scores = fr.torch.VideoAverage()  # doctest: +SKIP
    >>> for batch in loader:  # doctest: +SKIP
    ...     scores.update(batch["source"], model(batch["frames"]).softmax(-1))
    >>> sources, mean = scores.result()  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self._sums: Dict[int, torch.Tensor] = {}
        self._counts: Dict[int, int] = {}

    def update(self, sources: Union[torch.Tensor, Sequence[int]], values: torch.Tensor) -> None:
        """Adds values [B, ...], or [B, parts, ...] reshaped to [B * parts, ...] with each source repeated for its parts."""
        listed: List[int] = torch.as_tensor(sources).tolist()
        if len(values) % max(len(listed), 1):
            raise ValueError(f"there are {len(values)} values for {len(listed)} clips; give the same number for each")
        parts = len(values) // max(len(listed), 1)
        values = values.detach().reshape(len(listed), parts, *values.shape[1:]).sum(1).double().cpu()
        for source, value in zip(listed, values):
            self._sums[source] = self._sums[source] + value if source in self._sums else value
            self._counts[source] = self._counts.get(source, 0) + parts

    def result(self) -> Tuple[torch.Tensor, torch.Tensor]:
        """Sources in rising order [S], and the mean of each one's values [S, ...]."""
        order = sorted(self._sums)
        means = [self._sums[source] / self._counts[source] for source in order]
        return torch.tensor(order), torch.stack(means) if means else torch.empty(0)
