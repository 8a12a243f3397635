"""Pipelines: video in, detections and finished video out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Tuple, Union

from . import _framerail, remote, resources
from .frame_input import as_input
from .functions import StageFunction
from .in_process import InProcess
from .models import ModelRunner
from .options import Preprocess, bad, listed, numbered_device, real, sides, whole
from .progress import ProgressLine
from .types import Outcome, Progress, Size
from .uploads import Uploads

if TYPE_CHECKING:
    from .types import Device, DType

Path = Union[str, "os.PathLike[str]"]
#: How outputs become detections: automatically, by the name of their form, or by a function of outputs and ``ItemBatch``.
Postprocess = Union[None, str, Callable[..., Sequence[object]]]


class Pipeline(InProcess):
    """A pipeline of stages that run in parallel.

    Parameters
    ----------
    pipeline : str or os.PathLike
        A text such as "read in.mp4 ! infer centerface ! hold ! blur ! write out.mp4", or a file that ends in ".toml".
        ``framerail.stages()`` lists the stages.
    device : str, optional
        "auto", "cpu", "cuda" or "cuda:N" for all stages without a device; default: the file's, else "auto".
    sources : mapping, optional
        Sources that `read` uses instead of files, by their names in the pipeline: bytes of a whole file, an object with
        ``read(n)`` and ``seek(offset, whence)``, or frames: a ``FrameInput``, or any iterable that it takes, such as a generator of arrays.
        A name needs a colon, such as "given:clip.mp4", to distinguish it from a file. Addresses
        that fsspec opens, such as "s3://bucket/clip.mp4", need no entry. Outputs at such addresses are uploaded at the end of a run and
        appear when they are complete.

    Raises
    ------
    PipelineUsageError
        For a mistake in the text; the message shows its position. Inputs and models are opened by ``edges`` and ``run``.

    Examples
    --------
    >>> import framerail as fr
    >>> p = fr.Pipeline("read in.mp4 ! infer centerface ! blur ! write out.mp4")
    >>> p.on("infer", lambda batch: print(batch[0].detections))
    >>> p.run(progress=True)  # doctest: +SKIP
    """

    def __init__(self, pipeline: Path, *, device: Optional[Device] = None, sources: Optional[Mapping[str, object]] = None) -> None:
        text = os.fspath(pipeline)
        is_file = text.endswith(".toml") and (os.path.exists(text) or not any(letter.isspace() for letter in text))
        resources.find()
        self._uploads = Uploads("" if is_file else text)
        self._compiled = _framerail.Pipeline(text if is_file else self._uploads.text, is_file, None if device is None else numbered_device(device))
        self._callbacks: List[Tuple[str, Callable[[List[_framerail.FrameItem]], object], int]] = []
        self._stats: Optional[Outcome] = None
        self._remote = remote.Finder()
        self._compiled.set_find_source(self._remote)
        for name, source in (sources or {}).items():
            if ":" not in name:
                raise bad("sources", name, f"a name with a colon, such as 'given:{name}'")
            frames = as_input(source)
            if frames is not None:
                self._compiled.set_frames(name, frames, frames.is_live)
            else:
                self._compiled.set_source(name, bytes(source) if isinstance(source, (bytearray, memoryview)) else source)

    @property
    def remote_stats(self) -> Dict[str, Dict[str, int]]:
        """What was fetched from object storage so far: "requests", "bytes", "retries" and "size_bytes" by address."""
        return self._remote.stats

    @property
    def text(self) -> str:
        """The pipeline as text."""
        return self._compiled.text

    @property
    def stages(self) -> List[str]:
        """Names of the stages, in order."""
        return self._compiled.stages

    @property
    def stats(self) -> Optional[Outcome]:
        """Statistics of the last finished run; None before."""
        return self._stats

    @property
    def serve_address(self) -> Optional[str]:
        """Address of the current run's monitoring server, such as "127.0.0.1:8080"; None without one, or when nothing is running.

        Available to callbacks, other threads, and the function passed as ``progress``.
        """
        return self._compiled.serve_address

    def edges(self) -> List[Tuple[str, str, str]]:
        """The connections between stages: from, to, and the format. Opens inputs and models.

        Raises
        ------
        PipelineError
            For stages that do not fit, and inputs or models that cannot be opened.
        """
        return self._compiled.edges()

    def on(self, stage: str, callback: Callable[[List[_framerail.FrameItem]], object], *, batch: int = 1) -> Pipeline:
        """Calls a function with the output of a stage, or with the input of the last stage.

        The function runs on the stage's thread, so a slow function slows the stage. It is called as frames arrive, so it must not
        wait for ``run``.

        Parameters
        ----------
        stage : str
            Name of a stage, such as "infer" or "blur-2", or of the model that it runs.
        callback : callable
            Gets a list of ``FrameItem``. With ``batch=1`` it may change the frame's ``detections``, and return False to drop the
            frame. An exception ends the run and is raised from ``run``.
        batch : int
            Frames in a call. With more than one, frames continue meanwhile: the callback can only observe.

        Returns
        -------
        Pipeline
            Itself.
        """
        if not callable(callback):
            raise bad("callback", callback, "a function of one argument")
        self._callbacks.append((self._compiled.resolve(stage), callback, whole("batch", batch, 1)))
        return self

    def model(
        self,
        name: str,
        model: Callable[..., object],
        *,
        preprocess: Optional[Preprocess] = None,
        postprocess: Postprocess = None,
        labels: Sequence[str] = (),
        confidence: Optional[float] = None,
        top_k: int = 5,
        autocast: Optional[DType] = None,
        arrays: str = "auto",
    ) -> Pipeline:
        """Sets the model that a stage ``torch NAME`` runs on batches of frames.

        A module runs on the GPU of its weights, else on the device of the frames. A module on another device is moved,
        and one in training mode is put into evaluation mode for the run, each with a ``UserWarning``. Calls come from one thread, under
        ``torch.inference_mode()``. Without
        PyTorch, the function gets NumPy arrays.

        Parameters
        ----------
        name : str
            Its name in the pipeline.
        model : callable
            A ``torch.nn.Module``, a TorchScript module, the result of ``torch.compile``, or any function of one tensor.
        preprocess : Preprocess, optional
            Conversion of frames to the model's input; by default float32 from 0 to 1 in RGB at the frames' own size, [N, C, H, W].
        postprocess : callable or str, optional
            A function of outputs and ``ItemBatch`` that returns for each frame a list of ``Detection``, or a dict of arrays
            (boxes, and scores, labels, masks, keypoints), in pixels of the frame: ``batch.to_frame`` maps there. Or the form of
            the outputs, which is detected by default: "detections" (torchvision's list of dicts),
            "boxes" (rows of left, top, right, bottom, score, class), "classes" (logits or probabilities).
        labels : sequence of str
            Names of the classes by their numbers.
        confidence : float, optional
            Minimum score of a detection, for known output forms; it can be changed during the run.
        top_k : int
            Number of classes kept per frame, for "classes".
        autocast : optional
            "float16" or "bfloat16", for ``torch.autocast``.
        arrays : str
            Type of arrays that the function gets: "torch", "numpy", "dlpack", or "auto" (PyTorch where it is installed).

        Returns
        -------
        Pipeline
            Itself.

        Examples
        --------
        >>> p = fr.Pipeline("read in.mp4 ! torch detector batch=16 ! save boxes.parquet")
        >>> p.model("detector", module, preprocess=fr.Preprocess(size=(300, 300)), labels=names)  # doctest: +SKIP
        """
        names = self._compiled.named_by("torch")
        if name not in names:
            raise bad("name", name, listed(names) if names else "it in the pipeline first: `torch NAME` is not there")
        runner = ModelRunner(name, model, preprocess, postprocess, labels, confidence, top_k, autocast, arrays)
        self._compiled.set_model(name, runner)
        return self

    def function(self, name: str, function: Callable[..., object]) -> Pipeline:
        """Sets the function that a stage ``python NAME`` calls; see ``framerail.stage``.

        Parameters
        ----------
        name : str
            Its name in the pipeline.
        function : callable or class
            A function of an ``ItemBatch``, or a class of such objects.

        Returns
        -------
        Pipeline
            Itself.
        """
        names = self._compiled.named_by("python")
        if name not in names:
            raise bad("name", name, listed(names) if names else "it in the pipeline first: `python NAME` is not there")
        self._compiled.set_function(name, StageFunction(function))
        return self

    def insert_after(self, stage: str, function: Callable[..., object], *, name: Optional[str] = None) -> Pipeline:
        """Adds a function after a stage, as a separate stage; see ``framerail.stage``.

        Parameters
        ----------
        stage : str
            Name of a stage, such as "infer" or "blur-2", or of the model or function that it runs.
        function : callable or class
            A function of an ``ItemBatch``, or a class of such objects. An exception ends the run and is raised from ``run``.
        name : str, optional
            Its name in statistics; by default the function's.

        Returns
        -------
        Pipeline
            Itself. ``stages`` and ``text`` show the new stage.
        """
        return self._insert(stage, True, function, name)

    def insert_before(self, stage: str, function: Callable[..., object], *, name: Optional[str] = None) -> Pipeline:
        """The same before a stage."""
        return self._insert(stage, False, function, name)

    def _insert(self, stage: str, is_after: bool, function: Callable[..., object], name: Optional[str]) -> Pipeline:
        adapter = StageFunction(function)
        wanted = adapter.name if name is None else str(name)
        if not wanted.isidentifier() and not wanted.replace("-", "_").isidentifier():
            wanted = "function"
        self._compiled.insert(stage, is_after, wanted, adapter)
        return self

    def run(
        self,
        *,
        progress: Progress = False,
        stall_limit: float = 10.0,
        memory: Optional[int] = None,
        serve: Union[None, str, bool] = None,
        serve_token: Optional[str] = None,
        serve_hosts: Sequence[str] = (),
        serve_view: Optional[str] = None,
        serve_sources: Sequence[str] = (),
        otlp: Union[None, str, bool] = None,
        otlp_trace: Optional[int] = None,
        otlp_interval: Optional[int] = None,
    ) -> Outcome:
        """Runs the pipeline to its end.

        Ctrl-C ends the run and completes its files, a second one discards them; then ``KeyboardInterrupt`` is raised.

        With ``serve`` the run can be watched over HTTP: a page with live images, rates and settings, and statistics for
        programs, as by ``framerail run --serve``.

        Parameters
        ----------
        progress : bool or callable
            True draws a line on the terminal; a function gets the statistics so far, five times a second.
        stall_limit : float
            Log a warning when a stage spends longer than this many seconds on one item.
        memory : int, optional
            Maximum host memory in bytes for frames decoded ahead and in flight. Default: a quarter of the machine's.
        serve : str or False, optional
            Address and port such as "127.0.0.1:8080"; port 0 takes a free one: see ``serve_address``. Default: ``[serve]`` of the
            pipeline file; False does not serve.
        serve_token : str, optional
            Access token, required for addresses other than loopback. Default: the environment's
            ``FRAMERAIL_SERVE_TOKEN``, then the file's.
        serve_hosts : sequence of str
            Additional host names of the server, such as a proxy's.
        serve_view : str, optional
            Stage whose output is shown. Default: the last one before the end.
        serve_sources : sequence of str
            Schemes of addresses that clients may add to the run, and ``"file"`` for paths; by default http, https, rtmp,
            rtmps, rtsp, rtsps and srt.
        otlp : str or False, optional
            URL of an OpenTelemetry collector, such as "http://localhost:4318", that gets metrics and traces by OTLP over HTTP; "env"
            takes that of ``OTEL_EXPORTER_OTLP_ENDPOINT``. Default: ``[otlp]`` of the pipeline file; False exports nothing.
        otlp_trace : int, optional
            Trace every Nth frame of the sources; 0 traces none. Default: the file's, else 100.
        otlp_interval : int, optional
            Seconds between two exports of metrics, 1 to 3600. Default: the file's, else 10.

        Returns
        -------
        Outcome
            A dict of statistics: ``wall_secs``, ``stages``, ``edges`` and more, as ``framerail run --stats`` writes them.

        Raises
        ------
        PipelineError
            Its ``kind`` classifies the failure.
        """
        if serve is not None and serve is not False and not isinstance(serve, str):
            raise bad("serve", serve, 'an address such as "127.0.0.1:8080", or False')
        watch = {
            "is_wanted": serve is not False,
            "address": serve if isinstance(serve, str) else None,
            "token": serve_token,
            "hosts": [serve_hosts] if isinstance(serve_hosts, str) else list(serve_hosts),
            "view": serve_view,
            "sources": [serve_sources] if isinstance(serve_sources, str) else list(serve_sources),
        }
        if otlp is not None and otlp is not False and not isinstance(otlp, str):
            raise bad("otlp", otlp, 'the URL of a collector such as "http://localhost:4318", or False')
        export = {
            "is_wanted": otlp is not False,
            "url": otlp if isinstance(otlp, str) else None,
            "trace": None if otlp_trace is None else whole("otlp_trace", otlp_trace, 0),
            "interval": None if otlp_interval is None else whole("otlp_interval", otlp_interval, 1, "seconds from 1 to 3600", 3600),
        }
        self._uploads.check()
        line = ProgressLine(sys.stderr) if progress and not callable(progress) else None
        report: Optional[Callable[[Outcome], object]] = progress if callable(progress) else line.update if line is not None else None
        told = None if report is None else lambda stats: report(json.loads(stats))
        try:
            limit = real("stall_limit", stall_limit, "seconds above 0", above=0.0)
            most = None if memory is None else whole("memory", memory, 1)
            stats = self._compiled.run(self._callbacks, told, (limit, most), (watch, export))
        finally:
            if line is not None:
                line.close()
        self._uploads.complete()
        outcome: Outcome = json.loads(stats)
        self._stats = outcome
        return outcome

    def replace_model(self, stage: str, model: Path) -> None:
        """Gives a stage ``infer`` of the current run another model, between two frames; callable from another thread or a callback.

        Returns when the new model is loaded; the run continues meanwhile, no frame is lost, and all stay in order.

        Parameters
        ----------
        stage : str
            Name of the stage, as in ``stages``.
        model : path
            Name or model card of a model with the task, classes and landmarks of the first one.

        Raises
        ------
        PipelineUsageError
            When there is no such stage, its model cannot be replaced, or the run has ended.
        PipelineError
            When the model cannot be used. The stage keeps the one that it has.
        RuntimeError
            When the pipeline is not running.
        """
        self._compiled.replace_model(stage, os.fspath(model))

    def set(self, stage: str, name: str, value: float) -> None:
        """Changes a setting of the current run, such as a threshold; callable from another thread or a callback.

        Parameters
        ----------
        stage : str
            Name of the stage, as in ``stages``.
        name : str
            The setting; the documentation of each stage says which of its options can be changed during the run.
        value : float
            The value. Frames that the stage is processing keep the previous one.

        Raises
        ------
        PipelineUsageError
            When there is no such setting, the value is out of its range, or the run has ended.
        RuntimeError
            When the pipeline is not running.
        """
        self._compiled.set(stage, name, real("value", value, "a number"))

    def stop(self) -> None:
        """Stops the current run and completes its files; callable from another thread or a callback."""
        self._compiled.stop()

    def __repr__(self) -> str:
        return f"Pipeline({self.text!r})"


def stages() -> Dict[str, object]:
    """The stages that pipelines are made of, with their options and examples."""
    listed: Dict[str, object] = json.loads(_framerail.stages())
    return listed


def blur_faces(
    input: Path,
    output: Path,
    *,
    device: Optional[Device] = None,
    model: str = "centerface",
    precision: Optional[str] = None,
    provider: Optional[str] = None,
    confidence: Optional[float] = None,
    detection_size: Optional[Size] = None,
    every: int = 1,
    hold: Optional[int] = 8,
    cover: str = "gaussian",
    cell: int = 20,
    color: str = "black",
    image: Optional[Path] = None,
    strength: Optional[float] = None,
    shape: Optional[str] = None,
    contour_model: Optional[Path] = None,
    mask_scale: Optional[float] = None,
    feather: Optional[float] = None,
    draw_scores: bool = False,
    report: Optional[Path] = None,
    save: Optional[Path] = None,
    overwrite: bool = False,
    read: Optional[Mapping[str, object]] = None,
    write: Optional[Mapping[str, object]] = None,
    progress: Progress = False,
    serve: Union[None, str, bool] = None,
    serve_token: Optional[str] = None,
    serve_hosts: Sequence[str] = (),
    serve_view: Optional[str] = None,
    serve_sources: Sequence[str] = (),
) -> Outcome:
    """Covers the faces in a video or image.

    Parameters
    ----------
    input, output : str or os.PathLike
        What is read and written.
    device : str, optional
        As in ``Pipeline``.
    model : str
        Name or model card of the face detector.
    precision : str, optional
        The detector's arithmetic: "auto", "fp32", "fp16" (GPU), "bf16" or "int8" (CPU); the model's by default. "int8" needs a
        model made by ``framerail quantize``.
    provider : str, optional
        Execution provider of the detector, such as "openvino"; ONNX Runtime's own by default.
    confidence : float, optional
        Minimum score of a face, 0 to 1; the model card's by default.
    detection_size : (height, width), optional
        Detection size; the frame's by default.
    every : int
        Run the detector on every Nth frame; boxes are linked in between.
    hold : int or None
        Number of frames before and after a detection that are also covered; None for images.
    cover : str
        "gaussian", "box", "mosaic" (squares of ``cell`` pixels), "solid" (``color``), "image" (``image``) or "none".
    shape : str, optional
        "ellipse", "rectangle", or "contour": the outline that a model returns, with the ellipse as fallback. Default: an ellipse,
        or a contour with ``contour_model``.
    contour_model : str or os.PathLike, optional
        Name or model card of a second model that returns each face's mask or landmarks.
    strength, mask_scale, feather
        How strong, how large (1.0 is the face's box; 1.3 by default, 1.1 for contours), and how soft at the edge.
    draw_scores : bool
        Draw scores beside the faces.
    report, save : str or os.PathLike, optional
        Write an HTML report; write detections as JSON lines.
    overwrite : bool
        Replace files that exist.
    read, write : dict, optional
        Further options of the stages ``read`` and ``write``, such as ``write={"crf": 20}``.
    progress : bool or callable
        As in ``Pipeline.run``.
    serve, serve_token, serve_hosts, serve_view, serve_sources
        Serve a monitoring page, as in ``Pipeline.run``.

    Returns
    -------
    Outcome
        Statistics, as ``Pipeline.run`` returns them.

    Raises
    ------
    ValueError, PipelineError
    """

    def path(value: Optional[Path]) -> Optional[str]:
        return None if value is None else os.fspath(value)

    def pairs(given: Optional[Mapping[str, object]]) -> List[Tuple[str, str]]:
        return [(name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in (given or {}).items()]

    options = {
        "input": path(input), "output": path(output), "device": None if device is None else numbered_device(device), "model": os.fspath(model), "precision": precision, "provider": provider, "confidence": confidence,
        "detection_size": sides("detection_size", detection_size), "every": every, "hold": hold, "cover": cover, "cell": cell, "color": color,
        "image": path(image), "strength": strength,
        "shape": shape or ("ellipse" if contour_model is None else "contour"), "contour_model": path(contour_model),
        "mask_scale": mask_scale, "feather": feather,
        "draw_scores": draw_scores, "report": path(report), "save": path(save), "overwrite": overwrite,
        "read": pairs(read), "write": pairs(write),
    }  # fmt: skip
    pipeline = Pipeline(_framerail.blur_faces_pipeline(json.dumps(options)))
    return pipeline.run(
        progress=progress, serve=serve, serve_token=serve_token, serve_hosts=serve_hosts, serve_view=serve_view,
        serve_sources=serve_sources,
    )  # fmt: skip
