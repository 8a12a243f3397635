"""``python -m framerail.ray``: a pipeline over many files on a Ray cluster."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import List, Optional, Union

from ..errors import PipelineError
from ..standard_output import ArgumentParser, ends_as_unix_tools


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m framerail.ray",
        description="Run a pipeline on every video of folders, patterns and buckets, on the workers of a Ray cluster.",
        epilog="""Exit codes: 0 all done, 2 mistake in the call, 3 inputs failed, 4 outputs cannot be written, 130 interrupted. Example:
  python -m framerail.ray 'read {path} ! infer centerface ! hold ! blur ! write out/{name}.mp4' in/ --resume --report report.html""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pipeline", help="a pipeline that begins with `read {path}`; {name} and {out} are filled in too")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders with those below them, patterns, addresses such as s3://bucket/videos/")
    parser.add_argument("--out", metavar="FOLDER", help="what {out} stands for: a folder that all nodes reach, or an address")
    parser.add_argument("--resume", action="store_true", help="leave out inputs that an earlier run has finished and that did not change")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that other programs wrote")
    parser.add_argument("--errors", choices=("report", "fail"), default="report", help="whether the first failure ends the run; default: report")
    parser.add_argument("--report", metavar="FILE", help="write a report: a page, or JSON for FILE.json")
    parser.add_argument("--split", metavar="SECONDS", default="auto", help="length of the pieces of long files; auto or no; default: auto")
    parser.add_argument("--device", help="where to decode and run models: auto, cpu, cuda; default: auto")
    parser.add_argument("--cpus", type=float, default=1, help="CPUs of a task, and threads of its stages; default: 1")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of a task, such as 0.25; default: 0")
    parser.add_argument("--retries", type=int, default=3, help="retries of a task whose worker was lost; default: 3")
    parser.add_argument("--address", metavar="ADDRESS", help="the Ray cluster; default: $RAY_ADDRESS, else Ray on this machine")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--no-progress", action="store_true", help="show no progress line")
    return parser


@ends_as_unix_tools
def main(arguments: Optional[List[str]] = None) -> int:
    """Runs the command; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        import ray

        from . import run

        if not ray.is_initialized():
            ray.init(address=given.address or os.environ.get("RAY_ADDRESS"), log_to_driver=False, logging_level="ERROR")
        if given.report:
            # Checked before hours of work.
            os.makedirs(os.path.dirname(os.path.abspath(given.report)), exist_ok=True)
        split = None if given.split == "no" else _number(given.split)
        report = run(
            given.pipeline, given.inputs[0] if len(given.inputs) == 1 else given.inputs, out=given.out, resume=given.resume,
            overwrite=given.overwrite, errors=given.errors, split=split, device=given.device, num_cpus=given.cpus,
            num_gpus=given.gpus, retries=given.retries, progress=not given.no_progress,
        )  # fmt: skip
    except (PipelineError, ValueError, ImportError, OSError) as error:
        words = str(error)
        print(words if words.startswith("error:") else f"framerail: error: {words}", file=sys.stderr)
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            return 3 if isinstance(error, FileNotFoundError) else 4
        return 2
    except KeyboardInterrupt:
        print("framerail: interrupted: finished outputs are complete; --resume continues", file=sys.stderr)
        return 130
    except RuntimeError as error:
        print(f"framerail: error: {error}", file=sys.stderr)
        return 3
    if not hasattr(report, "summary"):
        for row in report.iter_rows():
            print(json.dumps(row, default=str))
        return 0
    for row in report.failed[:20]:
        print(f"framerail: warning: {row.path}: {row.error}", file=sys.stderr)
    if len(report.failed) > 20:
        print(f"framerail: warning: and {len(report.failed) - 20} more; --report FILE lists them", file=sys.stderr)
    print(report.json() if given.json else report)
    if given.report:
        try:
            report.write(given.report)
        except OSError as error:
            print(f"framerail: error: the report cannot be written: {error}", file=sys.stderr)
            return 4
    return 3 if report.failed else 0


def _number(text: str) -> Union[str, float]:
    """A number of seconds; other words as they are."""
    try:
        return float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    sys.exit(main())
