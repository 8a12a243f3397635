"""Times framerail and deface on the same clips, interleaved, and writes what each run cost.

    make build bench-setup
    python3 bench/compare_deface.py                       # float32 cases, 5 runs each
    python3 bench/compare_deface.py --case bigbuckbunny-int8
    python3 bench/compare_deface.py --case carphone --runs 3
    python3 bench/compare_deface.py --only deface

Prints a table (medians, and ratios of neighbouring runs) and writes bench/results/DATE-NAME.json with every run.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from measure import Run, measure

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("FRAMERAIL_HOME", ROOT / ".framerail"))
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WORK = ROOT / "bench" / "work"

# deface's own encoder settings, as its writer passes them to FFmpeg: -vcodec libx264 -pix_fmt yuv420p and nothing
# else, so x264's defaults hold: crf 23, preset medium. The clips are multiples of 16, so it does not rescale them.
# Sound is copied by both (deface drops it unless asked), and both detect at the clip's own size, rounded up to
# multiples of 32, with threshold 0.2.
DEFACE = "{deface} {clip} -o {output} --keep-audio"
FRAMERAIL = (
    "{framerail} blur-faces {clip} -o {output} --overwrite --stats {stats}"
    " --codec libx264 --crf 23 --preset medium"
)


@dataclass(frozen=True)
class Case:
    """One clip and the two command lines that are compared on it."""

    name: str
    clip: str
    framerail: str
    deface: str = DEFACE


CASES = [
    Case("bigbuckbunny", "bigbuckbunny.mp4", FRAMERAIL),
    Case("carphone", "carphone_pristine.mp4", FRAMERAIL),
    Case("bigbuckbunny-every-third", "bigbuckbunny.mp4", FRAMERAIL + " --detect-every 3"),
    # After `framerail quantize centerface --clips ...` on footage other than the clip.
    Case("bigbuckbunny-int8", "bigbuckbunny.mp4", FRAMERAIL + " --precision int8"),
    Case("bigbuckbunny-int8-every-third", "bigbuckbunny.mp4", FRAMERAIL + " --precision int8 --detect-every 3"),
    # With `pip install onnxruntime-ep-openvino` beside ONNX Runtime.
    Case("bigbuckbunny-openvino-int8", "bigbuckbunny.mp4", FRAMERAIL + " --precision int8 --provider openvino"),
]
PROGRAMS = ("framerail", "deface")


def probe(path: Path) -> dict:
    """Frames and size of a video, counted from its packets."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_packets", "-of", "json"]
    command += ["-show_entries", "stream=width,height,nb_read_packets", str(path)]
    stream = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["streams"][0]
    return {"frames": int(stream["nb_read_packets"]), "width": stream["width"], "height": stream["height"]}


def first_line(command: list[str]) -> str:
    try:
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"unknown ({error})"
    return lines[0] if lines else "unknown"


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def machine(arguments: argparse.Namespace) -> dict:
    facts = {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "load_before": os.getloadavg(),
        "commit": first_line(["git", "describe", "--always", "--dirty"]),
        "deface_ffmpeg": arguments.deface_ffmpeg or "the one inside imageio-ffmpeg",
    }
    for program in arguments.programs:
        facts[program] = first_line([str(getattr(arguments, program)), "--version"])
    return facts


def run_once(case: Case, program: str, arguments: argparse.Namespace) -> Run:
    output = WORK / f"{case.name}-{program}.mp4"
    output.unlink(missing_ok=True)
    fields = {
        "clip": HOME / "clips" / case.clip,
        "output": output,
        "stats": output.with_suffix(".stats.json"),
        "framerail": arguments.framerail,
        "deface": arguments.deface,
    }
    command = [part.format(**fields) for part in getattr(case, program).split()]
    environment = {"FRAMERAIL_HOME": str(HOME)}
    if arguments.deface_ffmpeg:
        environment["IMAGEIO_FFMPEG_EXE"] = arguments.deface_ffmpeg
    return measure(command, output.with_suffix(".log"), environment)


def run_case(case: Case, arguments: argparse.Namespace) -> dict:
    programs = arguments.programs
    for program in programs:
        run_once(case, program, arguments)  # warms the file cache
    runs: dict[str, list[Run]] = {program: [] for program in programs}
    for number in range(arguments.runs):
        # The order turns, so that neither always runs on the warmer machine.
        for program in programs if number % 2 == 0 else reversed(programs):
            print(f"{case.name}: run {number + 1} of {arguments.runs}: {program}", file=sys.stderr)
            runs[program].append(run_once(case, program, arguments))
    source = probe(HOME / "clips" / case.clip)
    result = {"name": case.name, "clip": case.clip, "input": source, "programs": {}}
    for program in programs:
        result["programs"][program] = {
            "command": getattr(case, program),
            "output": probe(WORK / f"{case.name}-{program}.mp4"),
            "runs": [run.as_json() for run in runs[program]],
            "summary": summary(runs[program], source["frames"]),
        }
    if len(programs) == 2:
        result["deface_over_framerail"] = ratios(runs["deface"], runs["framerail"])
    return result


def spread(values: list[float]) -> dict:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summary(runs: list[Run], frames: int) -> dict:
    cores = len(os.sched_getaffinity(0))
    return {
        "frames_per_sec": spread([frames / run.wall_secs for run in runs]),
        "wall_secs": spread([run.wall_secs for run in runs]),
        "cpu_secs": spread([run.cpu_secs for run in runs]),
        # 1 means that every core was busy all the time: the limit.
        "core_use": spread([run.cpu_secs / run.wall_secs / cores for run in runs]),
        "peak_process_mib": spread([run.peak_process_mib for run in runs]),
        "peak_tree_mib": spread([run.peak_tree_mib for run in runs]),
    }


def ratios(slow: list[Run], fast: list[Run]) -> dict:
    """Ratios of neighbouring runs, so that a slow minute of the machine counts on both sides."""
    pairs = list(zip(slow, fast))
    return {
        "wall": spread([a.wall_secs / b.wall_secs for a, b in pairs]),
        "cpu": spread([a.cpu_secs / b.cpu_secs for a, b in pairs]),
        "peak_tree": spread([a.peak_tree_mib / b.peak_tree_mib for a, b in pairs]),
    }


def print_table(results: list[dict]) -> None:
    head = ("case", "program", "frames/s", "(min to max)", "wall s", "CPU s", "cores", "peak MiB", "largest MiB", "frames")
    row = "{:<26}{:<11}{:>9}  {:<16}{:>7}{:>8}{:>7}{:>10}{:>13}{:>10}"
    print(row.format(*head))
    for result in results:
        for program, measured in result["programs"].items():
            s = measured["summary"]
            rate = s["frames_per_sec"]
            print(row.format(
                result["name"], program, f"{rate['median']:.2f}", f"({rate['min']:.2f} to {rate['max']:.2f})",
                f"{s['wall_secs']['median']:.2f}", f"{s['cpu_secs']['median']:.2f}", f"{s['core_use']['median']:.0%}",
                f"{s['peak_tree_mib']['median']:.0f}", f"{s['peak_process_mib']['median']:.0f}",
                f"{measured['output']['frames']}/{result['input']['frames']}",
            ))
        if ratio := result.get("deface_over_framerail"):
            wall, cpu, peak = ratio["wall"], ratio["cpu"], ratio["peak_tree"]
            print(
                f"{'':<26}framerail is {wall['median']:.2f} times as fast ({wall['min']:.2f} to {wall['max']:.2f}),"
                f" takes 1/{cpu['median']:.2f} of the CPU time and 1/{peak['median']:.2f} of the memory"
            )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="default: those in float32")
    parser.add_argument("--only", choices=PROGRAMS, help="measure one of the two alone")
    parser.add_argument("--name", default="deface", help="results go to bench/results/DATE-NAME.json")
    parser.add_argument("--framerail", type=Path, default=TARGET / "release" / "framerail")
    parser.add_argument("--deface", type=Path, default=HOME / "bench-venv" / "bin" / "deface")
    parser.add_argument("--deface-ffmpeg", help="FFmpeg for deface instead of the one it brings")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs must be at least 1")
    arguments.programs = [arguments.only] if arguments.only else list(PROGRAMS)
    for program in arguments.programs:
        if not getattr(arguments, program).is_file():
            parser.error(f"{getattr(arguments, program)} is missing; run: make build bench-setup")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    WORK.mkdir(parents=True, exist_ok=True)
    facts = machine(arguments)
    chosen = [case for case in CASES if (case.name in arguments.case if arguments.case else "int8" not in case.name)]
    try:
        results = [run_case(case, arguments) for case in chosen]
    except RuntimeError as error:
        print(f"compare_deface: {error}", file=sys.stderr)
        return 1
    folder = ROOT / "bench" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.date.today()}-{arguments.name}.json"
    path.write_text(json.dumps({"machine": facts, "cases": results}, indent=1) + "\n", encoding="utf-8")
    print_table(results)
    print(f"every run: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
