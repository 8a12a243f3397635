"""Runs framerail and the other programs in turn on the GPU host and writes what each run cost.

    source FOLDER/env.sh
    python3 run_all.py --clips FOLDER/clips --out results.json                      # everything
    python3 run_all.py --clips FOLDER/clips --out results.json --parts read random --rounds 5
    python3 run_all.py --list                                                        # the commands, nothing is run

Every command is a process of its own and prints one line of JSON. Rounds are interleaved and the order turns, so that
a change of the machine's pace meets all alike; medians are compared. A command that fails is written down with the end
of what it said, and makes the exit status 1. What was measured is written after each run, so an end by force loses
nothing. --append goes on with a file of results.
"""

import argparse
import datetime
import fnmatch
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
LENGTHS = (960, 5520, 9300)


@dataclass(frozen=True)
class Case:
    """One command of one part. `{clips}`, `{bench}` and `{scratch}` are folders; `{stem}` names the clip."""

    part: str
    who: str
    stem: str
    command: str

    @property
    def name(self) -> str:
        return f"{self.part}/{self.stem}/{self.who}"


# framerail's readers are timed by one program, whole jobs with the command that users have; both print the same line
# as peers.py. Every reader is warm, and the faster of two runs counts; one where the clip is long.
OURS = "framerail-bench"
JOB = "python3 {bench}/framerail_job.py"
PEERS = "python3 {bench}/peers.py {clips}/{stem}.mp4"


def reading() -> list[Case]:
    cases = []
    for stem in ("h264-960", "hevc-960", "h264-9300", "hevc-9300"):
        once = stem.endswith("-9300")
        # Its first run is the warm-up.
        cases.append(Case("read", "framerail", stem, f"{OURS} read {{clips}}/{{stem}}.mp4 --repeat {2 if once else 3}"))
        for peer in ("torchcodec", "pynvvideocodec", "pynvvideocodec-threaded", "vali"):
            cases.append(Case("read", peer, stem, f"{PEERS} --peer {peer} --job sequential --repeat {1 if once else 2}"))
    cases.append(Case("read", "opencv", "h264-960", f"{PEERS} --peer opencv --job sequential"))
    cases.append(Case("read", "torchcodec-cpu", "h264-960", f"{PEERS} --peer torchcodec-cpu --job sequential"))
    return cases


def ceilings() -> list[Case]:
    """Eight whole files at once: no reader of one file can be faster than all engines together."""
    return [
        Case("ceiling", "torchcodec", stem, f"{PEERS} --peer torchcodec --job sequential-8")
        for stem in ("h264-960", "hevc-960")
    ]


def random_access() -> list[Case]:
    ours = f"{OURS} random {{clips}}/{{stem}}.mp4 --picks {{bench}}/picks.txt"
    cases = [Case("random", "framerail", "h264-960", ours), Case("random-kept", "framerail", "h264-960", f"{ours} --kept")]
    for peer in ("torchcodec", "pynvvideocodec", "vali", "opencv"):
        cases.append(Case("random", peer, "h264-960", f"{PEERS} --peer {peer} --job random"))
    for peer in ("torchcodec", "pynvvideocodec"):
        cases.append(Case("random-kept", peer, "h264-960", f"{PEERS} --peer {peer} --job random-kept"))
    return cases


def opening() -> list[Case]:
    cases = []
    for part, callers in (("opens", 1), ("opens-8", 8)):
        cases.append(Case(part, "framerail", "h264-960", f"{OURS} opens {{clips}}/{{stem}}.mp4 --callers {callers}"))
        for peer in ("torchcodec", "pynvvideocodec"):
            cases.append(Case(part, peer, "h264-960", f"{PEERS} --peer {peer} --job {part}"))
    return cases


def detecting() -> list[Case]:
    cases = []
    python = "python3 {bench}/ssd_workflows.py {clips}/{stem}.mp4 --workflow"
    for frames in LENGTHS:
        stem = f"h264-{frames}"
        cases.append(Case("detect", "framerail", stem, f"{JOB} detect {{clips}}/{{stem}}.mp4"))
        cases.append(Case("detect", "framerail-torch", stem, "python3 {bench}/torch_stage.py {clips}/{stem}.mp4"))
        cases.append(Case("detect", "optimised", stem, f"{python} optimised"))
        cases.append(Case("detect", "typical", stem, f"{python} typical"))
    return cases


def blurring() -> list[Case]:
    return [
        Case("blur", "framerail", "faces-960", f"{JOB} blur {{clips}}/{{stem}}.mp4 {{scratch}}/framerail.mp4"),
        Case("blur", "deface", "faces-960", "{bench}/deface_cuda.sh {clips}/{stem}.mp4 {scratch}/deface.mp4"),
    ]


CASES = [*reading(), *ceilings(), *random_access(), *opening(), *detecting(), *blurring()]
PARTS = list(dict.fromkeys(case.part for case in CASES))


def first_line(*command: str) -> str:
    try:
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"unknown ({error})"
    return lines[0] if lines else "unknown"


def machine() -> dict:
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "card": first_line("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "framerail": first_line("framerail", "--version"),
    }


def last_json(text: str) -> dict | None:
    """The last line that is a JSON object; libraries may print before it."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except json.JSONDecodeError:
                return None
    return None


def run(case: Case, folders: dict[str, str], limit_secs: float) -> dict:
    command = shlex.split(case.command.format(stem=case.stem, **folders))
    began = time.perf_counter()
    try:
        process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=limit_secs)
    except OSError as error:
        return {"error": str(error)}
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {limit_secs:.0f} s"}
    wall = time.perf_counter() - began
    line = last_json(process.stdout)
    if process.returncode or line is None:
        said = (process.stderr + process.stdout).strip()
        # The cause is first in framerail's errors and last in Python's.
        said = said if len(said) < 2000 else f"{said[:1000]}\n...\n{said[-1000:]}"
        return {"error": f"exit status {process.returncode}: {said}"}
    return line | {"process_seconds": round(wall, 3)}


def summary(runs: list[dict]) -> dict:
    """Medians, least and most of the figures that runs report."""
    found = {}
    for key in ("frames_per_s", "per_second", "seconds", "device_mb", "process_seconds"):
        values = [line[key] for line in runs if key in line]
        if values:
            found[key] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return found


def write(out: Path, results: dict) -> None:
    for case in results["cases"].values():
        case["summary"] = summary([line for line in case["runs"] if "error" not in line])
    partial = out.with_name(out.name + ".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n")
    partial.replace(out)


def short(line: dict) -> str:
    """A run in one line."""
    if "error" not in line:
        return f"{line.get('per_second', line.get('frames_per_s'))}/s, {line.get('device_mb')} MiB"
    lines = line["error"].splitlines()
    return lines[0][:300] if len(lines) == 1 else f"{lines[0][:200]} ... {lines[-1][:200]}"


def measure_all(cases: list[Case], arguments: argparse.Namespace, results: dict) -> int:
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        folders = {"clips": str(arguments.clips), "bench": str(HERE), "scratch": scratch}
        for number in range(arguments.rounds):
            for case in cases if number % 2 == 0 else reversed(cases):
                if number >= arguments.long_rounds and case.stem.endswith(tuple(f"-{n}" for n in LENGTHS[1:])):
                    continue
                line = run(case, folders, arguments.limit)
                entry = results["cases"].setdefault(
                    case.name, {"part": case.part, "who": case.who, "clip": case.stem, "command": case.command, "runs": []}
                )
                entry["runs"].append(line | {"round": number})
                failures += "error" in line
                print(f"{number + 1}/{arguments.rounds} {case.name}: {short(line)}", file=sys.stderr, flush=True)
                write(arguments.out, results)
    return failures


def table(results: dict) -> str:
    lines = [f"{'part/clip/who':44} {'median /s':>10} {'least':>9} {'most':>9} {'MiB':>7} runs"]
    for name, case in results["cases"].items():
        rate = case["summary"].get("per_second") or case["summary"].get("frames_per_s")
        memory = case["summary"].get("device_mb", {}).get("max", 0)
        if rate:
            lines.append(
                f"{name:44} {rate['median']:10.1f} {rate['min']:9.1f} {rate['max']:9.1f} {memory:7.0f} {len(case['runs'])}"
            )
        else:
            lines.append(f"{name:44} FAILED: {short(case['runs'][-1])}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, help="folder with the clips of make_clips.sh")
    parser.add_argument("--out", type=Path, help="file for the results")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--who", nargs="+", help="only these programs")
    parser.add_argument("--skip", nargs="+", default=[], metavar="PATTERN", help="leave out cases, as 'detect/h264-9300/typical'")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long-rounds", type=int, default=3, help="rounds for the clips of 5,520 and 9,300 frames")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one command (default 600)")
    parser.add_argument("--append", action="store_true", help="go on with the file of results")
    parser.add_argument("--list", action="store_true", help="print the commands and end")
    arguments = parser.parse_args()
    cases = [
        case
        for case in CASES
        if case.part in arguments.parts
        and (not arguments.who or case.who in arguments.who)
        and not any(fnmatch.fnmatch(case.name, pattern) for pattern in arguments.skip)
    ]
    if arguments.list:
        for case in cases:
            print(f"{case.name:44} {case.command.format(stem=case.stem, clips='CLIPS', bench='BENCH', scratch='SCRATCH')}")
        return 0
    if not arguments.clips or not arguments.out:
        parser.error("--clips and --out are needed")
    missing = sorted({case.stem for case in cases if not (arguments.clips / f"{case.stem}.mp4").exists()})
    if missing:
        parser.error(f"clips missing in {arguments.clips}: {', '.join(missing)}; make_clips.sh --lengthen makes the long ones")
    results = {"machine": machine(), "cases": {}}
    if arguments.append and arguments.out.exists():
        results["cases"] = json.loads(arguments.out.read_text())["cases"]
    failures = measure_all(cases, arguments, results)
    print(table(results))
    if failures:
        print(f"run_all: {failures} runs failed, see {arguments.out}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
