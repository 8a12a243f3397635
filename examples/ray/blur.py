"""Every video of a folder with its faces blurred. Run it again after a failure: it does the rest.

    python examples/ray/blur.py videos/ covered/
"""

import sys

import framerail.ray as fr_ray

videos, covered = sys.argv[1:3]
report = fr_ray.run(
    "read {path} ! infer centerface ! hold ! blur ! write {out}/{name}.mp4",
    videos, out=covered, resume=True, progress=True, report=f"{covered}/report.html",
)  # fmt: skip
print(report)
for row in report.failed:
    print(f"{row.path}: {row.error}", file=sys.stderr)
