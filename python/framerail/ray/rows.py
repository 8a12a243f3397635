"""Detections of many files as a Ray data set: frames are decoded where the model runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, Dict, Optional

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from .. import _framerail
from ..jobs.inputs import list_inputs, pipeline_source
from ..jobs.job import failed
from ..jobs.report import JobRow
from ..jobs.template import Template
from ..options import bad
from ..pipeline import Pipeline
from ..source import printable

#: Maximum rows in a block.
_ROWS = 100_000
#: The columns of `save`, and the input.
_SCHEMA = pa.schema(
    [
        ("stream", pa.string()), ("stream_id", pa.uint32()), ("frame", pa.uint64()), ("pts", pa.int64()), ("time_base", pa.string()),
        ("seconds", pa.float64()), ("wall_time", pa.timestamp("us", "UTC")), ("analysed", pa.bool_()), ("label", pa.string()),
        ("label_id", pa.uint32()), ("score", pa.float32()), ("x1", pa.float32()), ("y1", pa.float32()), ("x2", pa.float32()),
        ("y2", pa.float32()), ("landmarks", pa.list_(pa.list_(pa.field("item", pa.float32(), nullable=False), 2))),
        ("track_id", pa.uint64()), ("origin", pa.string()), ("zones", pa.list_(pa.string())), ("attributes", pa.string()),
        ("oriented", pa.list_(pa.field("item", pa.float32(), nullable=False))), ("path", pa.string()), ("error", pa.string()),
    ]
)  # fmt: skip


class RowsJob:
    """Runs a pipeline on each row's video and returns its records: one row per detection, with the columns of `save` in Parquet.

    What fails is a row with "error", and is null in the other columns.
    """

    def __init__(
        self, text: str, device: Optional[str], threads: int, errors: str, storage: Optional[Dict[str, Any]], paths: Dict[str, str]
    ) -> None:
        self._text, self._device, self._threads, self._errors, self._storage = text, device, threads, errors, storage
        #: Paths that are not UTF-8, by how they are written in the data set.
        self._paths = paths

    def __call__(self, batch: Dict[str, Any]) -> Iterator[pa.Table]:
        _framerail.keep_models(True)
        template = Template(self._text)
        contents = batch.get("bytes")
        for place, path in enumerate(batch["path"]):
            yield from self._rows(template, str(path), None if contents is None else contents[place])

    def _rows(self, template: Template, path: str, content: Any) -> Iterator[pa.Table]:
        folder = tempfile.mkdtemp(prefix="framerail-rows-")
        try:
            rows = os.path.join(folder, "rows.parquet")
            if content is None:
                address, sources = pipeline_source(self._paths.get(path, path), self._storage)
            else:
                address, sources = f"given:{path}", {f"given:{path}": bytes(content)}
            text = template.filled(path=address, rows=rows, options=template.threads_options(self._threads))
            Pipeline(text, device=self._device, sources=sources).run()
            table = pq.read_table(rows)
            table = table.append_column("path", pa.array([path] * len(table), pa.string()))
            table = table.append_column("error", pa.array([""] * len(table), pa.string()))
            for start in range(0, len(table), _ROWS):
                yield _cast(table.slice(start, _ROWS))
        except Exception as error:
            if self._errors == "fail":
                raise
            row = failed(JobRow(path, "", "failed"), error, folder)
            known = {"path": pa.array([path]), "error": pa.array([f"{row.kind}: {row.error}"])}
            yield pa.table([known.get(field.name, pa.nulls(1, field.type)) for field in _SCHEMA], schema=_SCHEMA)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _cast(table: pa.Table) -> pa.Table:
    """The columns of every file in the same types, without the file's own metadata."""
    columns = [table.column(field.name).cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type) for field in _SCHEMA]
    return pa.table(columns, schema=_SCHEMA)


def rows_of(
    template: Template, inputs: Any, device: Optional[str], threads: int, errors: str, storage_options: Optional[Dict[str, Any]],
    args: Dict[str, Any],
) -> ray.data.Dataset:  # fmt: skip
    """The data set of the records that a pipeline saves to {rows}."""
    if any(stage.name == "save" and "{rows}" in "".join(stage.arguments) and stage.arguments != ["{rows}"] for stage in template.stages):
        raise bad("pipeline", template.text, "`save {rows}`: it is a Parquet file")
    paths: Dict[str, str] = {}
    if isinstance(inputs, ray.data.Dataset):
        dataset = inputs
    else:
        listed = sorted(list_inputs(inputs, storage_options), key=lambda one: -one.size)
        paths = {printable(found.path): found.path for found in listed}
        dataset = ray.data.from_items([{"path": path} for path in paths]).repartition(target_num_rows_per_block=1)
    job = RowsJob(template.text, device, threads, errors, storage_options, {name: path for name, path in paths.items() if name != path})
    # Ray Data runs the tasks of lost workers again by itself.
    named = {name: value for name, value in args.items() if name != "max_retries"}
    return dataset.map_batches(job, batch_size=1, batch_format="numpy", zero_copy_batch=True, **{**named, "num_gpus": args["num_gpus"] or None})
