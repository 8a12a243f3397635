#!/usr/bin/env python3
"""Compares framerail's face contours with MediaPipe's Python face mesh on the same clips, interleaved in one run.

    bench/compare_face_mesh.py --program target/release/framerail CLIP...

Needs mediapipe 0.10.21 and its OpenCV in the running Python. Prints one table: frames per second, CPU seconds and peak memory of both;
the mean distance between the contours and that of the face oval's points, relative to the face's width; the part of MediaPipe's oval that framerail covers; and the
area that a contour hides relative to an ellipse and a box.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIND = "infer {detector} ! hold"
MESH = "crop margin=0.25 square=yes ! infer face-mesh"
GREEN = "kind=solid color=#00ff00 feather=0"


def measured(command):
    """Seconds, CPU seconds and peak MB of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    took = time.monotonic() - began
    if process.returncode:
        sys.exit(f"{command}: {err.decode()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, cpu, out


def mediapipe_points(clip):
    """The faces of every frame, as lists of 468 points in pixels; runs in a separate process so that its memory can be measured."""
    import cv2
    import mediapipe

    faces = []
    with mediapipe.solutions.face_mesh.FaceMesh(max_num_faces=4) as mesh:
        reader = cv2.VideoCapture(clip)
        while True:
            good, frame = reader.read()
            if not good:
                break
            found = mesh.process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).multi_face_landmarks or []
            high, wide = frame.shape[:2]
            faces.append([[(point.x * wide, point.y * high) for point in face.landmark] for face in found])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"faces": faces, "peak": peak}))


def framerail_points(lines):
    """The same from records."""
    faces = []
    for line in lines:
        frame = []
        for found in json.loads(line)["detections"]:
            frame += [said["landmarks"] for said in found.get("attributes", []) if "landmarks" in said]
        faces.append(frame)
    return faces


def compare(clip, program, detector):
    import cv2
    import numpy as np
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_FACE_OVAL

    oval = sorted({point for edge in FACEMESH_FACE_OVAL for point in edge})
    find = FIND.format(detector=detector)
    with tempfile.TemporaryDirectory() as folder:
        boxes, stats = f"{folder}/boxes.jsonl", f"{folder}/stats.json"
        runs = {"framerail": [], "MediaPipe": []}
        for _ in range(2):
            run = ["run", f"read '{clip}' ! {find} ! {MESH} ! save {boxes} overwrite=yes", "--device", "cpu", "--stats", stats, "--overwrite", "-q"]
            runs["framerail"].append(measured([program, *run]))
            runs["MediaPipe"].append(measured([sys.executable, __file__, "--points", clip]))
        said = json.loads(runs["MediaPipe"][-1][2])
        theirs, ours = said["faces"], framerail_points(open(boxes, encoding="utf-8"))
        masks = {}
        for shape in ("contour", "ellipse", "rectangle"):
            scale = "" if shape == "contour" else "mask_scale=1.3"
            text = f"read '{clip}' ! {find} ! {MESH} ! blur {GREEN} shape={shape} {scale} ! write {folder}/{shape}.mkv codec=ffv1 audio=no"
            subprocess.run([program, "run", text, "--device", "cpu", "-q"], check=True)
            reader, masks[shape] = cv2.VideoCapture(f"{folder}/{shape}.mkv"), []
            while True:
                good, frame = reader.read()
                if not good:
                    break
                blue, green, red = (frame[..., channel].astype(int) for channel in range(3))
                masks[shape].append((green - np.maximum(blue, red)) > 120)
        distances, slid, covered, missed = [], [], [], 0
        for frame, (a, b) in enumerate(zip(theirs, ours)):
            for face in a:
                face = np.array(face)
                points = face[oval]
                wide = np.ptp(points[:, 0])
                near = [np.array(other) for other in b if np.linalg.norm(np.mean(other, 0) - face.mean(0)) < wide]
                polygon = np.zeros(masks["contour"][frame].shape, np.uint8)
                cv2.fillConvexPoly(polygon, cv2.convexHull(points.astype(np.float32)).astype(np.int32), 1)
                covered.append(masks["contour"][frame][polygon > 0].mean())
                if near:
                    hull = cv2.convexHull(near[0].astype(np.float32))
                    apart = [abs(cv2.pointPolygonTest(hull, (float(x), float(y)), True)) for x, y in points]
                    distances.append(np.mean(apart) / wide)
                    slid.append(np.linalg.norm(near[0][oval] - points, axis=1).mean() / wide)
                else:
                    missed += 1
        area = {shape: sum(int(mask.sum()) for mask in of) for shape, of in masks.items()}
        frames = len(theirs)
        best = {name: min(of) for name, of in runs.items()}
        peak = json.load(open(stats))["memory_peak_bytes"] / 2**20
        print(f"{Path(clip).name} with {detector}: {frames} frames, faces {sum(map(len, ours))} and {sum(map(len, theirs))}")
        for name, memory in (("framerail", peak), ("MediaPipe", said["peak"])):
            took, cpu, _ = best[name]
            print(f"  {name:10} {frames / took:6.1f} frames/s  {cpu / frames * 1000:6.1f} ms CPU a frame  {memory:5.0f} MB")
        print(f"  distance of the contours: mean {np.mean(distances):.1%} of the face's width, 95% below {np.quantile(distances, 0.95):.1%}")
        print(f"  distance of the same points on them: mean {np.mean(slid):.1%}")
        print(f"  of MediaPipe's oval covered: mean {np.mean(covered):.2%}, least {np.min(covered):.1%}; faces without ours: {missed}")
        for shape in ("ellipse", "rectangle"):
            print(f"  hidden area against {shape}: {1 - area['contour'] / area[shape]:.0%} less")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="target/release/framerail")
    parser.add_argument("--detector", default="centerface")
    parser.add_argument("--points", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("clips", nargs="+")
    arguments = parser.parse_args()
    for clip in arguments.clips:
        if arguments.points:
            mediapipe_points(clip)
        else:
            compare(os.path.abspath(clip), arguments.program, arguments.detector)


if __name__ == "__main__":
    main()
