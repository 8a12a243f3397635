"""Detections of every video of a folder, as Parquet: frames are decoded where the model runs.

    python examples/ray/batch_inference.py videos/ boxes/
"""

import sys

import framerail.ray as fr_ray

videos, boxes = sys.argv[1:3]
rows = fr_ray.run("read {path} ! infer centerface every=5 ! save {rows}", videos)
rows = rows.materialize()
failed = rows.filter(lambda row: row["error"] != "")
for row in failed.iter_rows():
    print(f"{row['path']}: {row['error']}", file=sys.stderr)
rows.filter(lambda row: row["error"] == "").write_parquet(boxes)
print(f"{rows.count() - failed.count()} detections")
