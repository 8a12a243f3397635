"""Makes the scenes of this folder, with the results of published trackers and TrackEval.

    python -m venv venv && . venv/bin/activate
    pip install numpy==1.26.4 scipy==1.13.1 lap==0.5.12 matplotlib==3.9.4
    pip install --no-deps bytetracker==0.3.2 filterpy==1.4.5 ocsort==0.0.2 trackeval==1.3.0
    python -W ignore make_reference.py

Each scene is a table, SCENE.tsv, with a row for every object on every frame and for every false positive:

    frame   from 0
    thing   the object's true identity; - for a false positive
    truth   x,y,w,h of the true box, in tenths of a pixel; - for a false positive
    found   x,y,w,h of the detection, in tenths of a pixel; - where it was missed
    score   of the detection, in ten-thousandths
    byte    identity that bytetracker assigns to the detection, or -
    oc      identity that ocsort assigns to it, or -

evaluation.tsv holds TrackEval's measures of both. The two packages are the published programs of ByteTrack and OC-SORT. This script
works around the following: bytetracker takes box centres for corners, so it gets boxes moved by half their size; its handling of
classes shortens the list of low detections to the number of high ones; ocsort takes the class for the score. Both need PyTorch
only for `.numpy()`.
"""

import random
import sys
import types
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


class Rows:
    """Detections as the trackers expect them: x1 y1 x2 y2, score, class."""

    def __init__(self, boxes, scores, classes):
        self.boxes, self.scores, self.classes = Array(boxes), Array(scores), classes

    def __getitem__(self, key):
        columns = key[1]
        if columns == 4:
            return self.scores
        return self.classes if columns == 5 else self.boxes


class Array(np.ndarray):
    """A NumPy array that can stand in for a tensor."""

    def __new__(cls, values):
        return np.asarray(values, dtype=float).view(cls)

    def numpy(self):
        return np.asarray(self)

    def clone(self):
        return self.copy()


class AnyClass:
    """A list of classes of any length."""

    def numpy(self):
        return self

    def __getitem__(self, mask):
        return np.zeros(len(mask))


torch = types.ModuleType("torch")
torch.Tensor = Array
sys.modules["torch"] = torch

from bytetracker.byte_tracker import BYTETracker  # noqa: E402
from ocsort.ocsort import OCSort  # noqa: E402
from trackeval.metrics import CLEAR, HOTA, Identity  # noqa: E402

WIDTH, HEIGHT = 1280, 720


class Thing:
    def __init__(self, rng, scene):
        self.h = rng.uniform(*scene["height"])
        self.w = self.h * rng.uniform(0.35, 0.6)
        self.x, self.y = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
        speed = rng.uniform(*scene["speed"])
        self.vx, self.vy = speed * rng.choice([-1, 1]), speed * rng.uniform(-0.3, 0.3)
        self.first, self.last = 0, scene["frames"]
        if rng.random() < 0.4:
            self.first = rng.randrange(0, scene["frames"] // 2)
        if rng.random() < 0.3:
            self.last = rng.randrange(scene["frames"] // 2, scene["frames"])
        self.hidden_until = 0

    def move(self, rng, scene, frame):
        self.vx += rng.uniform(-1, 1) * scene["turn"]
        self.vy += rng.uniform(-1, 1) * scene["turn"]
        if rng.random() < scene["reverse"]:
            self.vx, self.vy = -self.vx, -self.vy
        if rng.random() < scene["hide"]:
            self.hidden_until = frame + rng.randrange(3, 40)
        self.x, self.y = self.x + self.vx, self.y + self.vy
        if not 0 < self.x < WIDTH:
            self.vx = -self.vx
        if not 0 < self.y < HEIGHT:
            self.vy = -self.vy

    def box(self):
        return [self.x - self.w / 2, self.y - self.h / 2, self.w, self.h]


SCENES = {
    # Walkers who pass in front of each other.
    "street": dict(seed=1, things=9, frames=170, height=(90, 200), speed=(1, 6), turn=0.05, reverse=0.0, hide=0.0, miss=0.01, noise=0.02),
    # Many small objects close together.
    "crowd": dict(seed=2, things=24, frames=90, height=(24, 60), speed=(0.5, 3), turn=0.1, reverse=0.0, hide=0.003, miss=0.02, noise=0.04),
    # A few objects that turn back and hide.
    "turns": dict(seed=3, things=7, frames=220, height=(80, 160), speed=(3, 9), turn=0.4, reverse=0.01, hide=0.01, miss=0.02, noise=0.02),
}


def covered(a, b):
    """Returns the share of a that b covers."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0) / (a[2] * a[3])


def tenths(box):
    return [round(value * 10) for value in box]


def scene_rows(scene):
    """Returns rows of [frame, thing, truth, found, score]."""
    rng = random.Random(scene["seed"])
    things = [Thing(rng, scene) for _ in range(scene["things"])]
    rows = []
    for frame in range(scene["frames"]):
        scores = set()

        def score(low, high):
            # Different from every other score of the frame, and from every threshold.
            while True:
                value = rng.randrange(low, high) // 10 * 10 + rng.randrange(1, 10)
                if value not in scores:
                    scores.add(value)
                    return value

        for thing in things:
            thing.move(rng, scene, frame)
        shown = [(number, thing) for number, thing in enumerate(things) if thing.first <= frame < thing.last]
        for number, thing in shown:
            truth = thing.box()
            nearer = [other.box() for _, other in shown if other.y + other.h / 2 > thing.y + thing.h / 2]
            hidden = max((covered(truth, box) for box in nearer), default=0)
            seen = hidden < 0.85 and frame >= thing.hidden_until and rng.random() >= scene["miss"]
            found, value = None, 0
            if seen:
                found = [truth[i] + rng.gauss(0, scene["noise"]) * (thing.w, thing.h)[i % 2] for i in range(2)]
                found += [truth[2 + i] * (1 + rng.gauss(0, scene["noise"])) for i in range(2)]
                value = score(1200, 6500) if hidden > 0.5 or rng.random() < 0.03 else score(6200, 9800)
            rows.append([frame, number, tenths(truth), found and tenths(found), value])
        if rng.random() < 0.25:
            found = [rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(20, 80), rng.uniform(40, 160)]
            rows.append([frame, None, None, tenths(found), score(800, 8000)])
    return rows


def by_frame(rows, frames):
    """Returns the rows with a detection, frame by frame."""
    return [[row for row in rows if row[0] == frame and row[3]] for frame in range(frames)]


def corners(row):
    x, y, w, h = (value / 10 for value in row[3])
    return [x, y, x + w, y + h]


def run_byte(rows, frames):
    tracker = BYTETracker(track_thresh=0.6, track_buffer=30, match_thresh=0.8, frame_rate=30)
    for found in by_frame(rows, frames):
        boxes = [[x1 - (x2 - x1) / 2, y1 - (y2 - y1) / 2, x1 + (x2 - x1) / 2, y1 + (y2 - y1) / 2] for x1, y1, x2, y2 in map(corners, found)]
        scores = [row[4] / 10000 for row in found]
        tracks = tracker.update(Rows(np.reshape(boxes, (-1, 4)), scores, AnyClass()), None)
        identity = {round(track[6] * 10000): int(track[4]) for track in tracks}
        for row in found:
            row.append(identity.get(row[4]))


def run_oc(rows, frames):
    tracker = OCSort(det_thresh=0.6, max_age=30, min_hits=3, iou_threshold=0.3, delta_t=3, asso_func="iou", inertia=0.2, use_byte=False)
    for found in by_frame(rows, frames):
        boxes = np.reshape([corners(row) for row in found], (-1, 4))
        scores = Array([row[4] / 10000 for row in found])
        tracks = tracker.update(Rows(boxes, scores, scores), None)
        # A track's box is its detection's, except in the first frames, where it has passed through the filter.
        for row in found:
            match = [track for track in tracks if np.abs(track[:4] - corners(row)).max() < 0.01]
            row.append(int(match[0][4]) if match else None)


def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(w, 0) * max(h, 0)
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def evaluation(rows, frames, column):
    truth_numbers = {thing: n for n, thing in enumerate(sorted({row[1] for row in rows if row[1] is not None}))}
    track_numbers = {track: n for n, track in enumerate(sorted({row[column] for row in rows if row[3] and row[column] is not None}))}
    data = dict(gt_ids=[], tracker_ids=[], similarity_scores=[], num_timesteps=frames)
    for frame in range(frames):
        here = [row for row in rows if row[0] == frame]
        truth = [row for row in here if row[1] is not None]
        found = [row for row in here if row[3] and row[column] is not None]
        boxes = [[x / 10, y / 10, (x + w) / 10, (y + h) / 10] for x, y, w, h in (row[2] for row in truth)]
        data["gt_ids"].append(np.array([truth_numbers[row[1]] for row in truth], dtype=int))
        data["tracker_ids"].append(np.array([track_numbers[row[column]] for row in found], dtype=int))
        overlaps = [[iou(box, corners(row)) for row in found] for box in boxes]
        data["similarity_scores"].append(np.reshape(overlaps, (len(truth), len(found))).astype(float))
    data["num_gt_ids"], data["num_tracker_ids"] = len(truth_numbers), len(track_numbers)
    data["num_gt_dets"] = sum(map(len, data["gt_ids"]))
    data["num_tracker_dets"] = sum(map(len, data["tracker_ids"]))
    quiet = dict(PRINT_CONFIG=False)
    hota, clear = HOTA().eval_sequence(data), CLEAR(quiet).eval_sequence(data)
    idf1 = Identity(quiet).eval_sequence(data)["IDF1"]
    means = [hota[name].mean() for name in ("HOTA", "DetA", "AssA")]
    return [f"{value:.6f}" for value in means] + [str(int(clear["IDSW"])), f"{clear['MOTA']:.6f}", f"{idf1:.6f}"]


def text(value):
    if value is None:
        return "-"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def main():
    measures = ["scene\ttracker\thota\tdeta\tassa\tswitches\tmota\tidf1"]
    for name, scene in SCENES.items():
        rows = scene_rows(scene)
        run_byte(rows, scene["frames"])
        run_oc(rows, scene["frames"])
        lines = ["frame\tthing\ttruth\tfound\tscore\tbyte\toc"]
        lines += ["\t".join(map(text, row + [None] * (7 - len(row)))) for row in rows]
        (FOLDER / f"{name}.tsv").write_text("\n".join(lines) + "\n")
        for column, tracker in ((5, "byte"), (6, "oc")):
            measures.append("\t".join([name, tracker] + evaluation(rows, scene["frames"], column)))
    (FOLDER / "evaluation.tsv").write_text("\n".join(measures) + "\n")


main()
