"""Runs published trackers with appearance on the scenes of appearance.rs, and measures them with TrackEval.

    FRAMERAIL_TRACKING_SCENES=scenes cargo test -p framerail-vision --test tracking_reference appearance
    python -m venv venv && . venv/bin/activate
    pip install numpy==1.26.4 torch torchvision opencv-python-headless scipy lap loguru filterpy gdown pandas ftfy yacs regex scikit-learn
    pip install --no-deps boxmot==12.0.7 trackeval==1.3.0
    python -W ignore compare_appearance.py scenes

The trackers get the same boxes, scores, embeddings and camera motion; their thresholds are those of `track`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from boxmot.trackers.botsort.botsort import BotSort
from boxmot.trackers.bytetrack.bytetrack import ByteTrack
from boxmot.trackers.deepocsort import deepocsort
from boxmot.trackers.ocsort.ocsort import OcSort
from trackeval.metrics import CLEAR, HOTA, Identity


class Motion:
    """Stands in for the estimation of the camera's motion."""

    def apply(self, *_):
        return np.array([[1, 0, self.shift[0]], [0, 1, self.shift[1]]], dtype=float)


class NoModel:
    """Embeddings are given."""

    model = None

    def __init__(self, *_, **__):
        pass


def read(path):
    frames = []
    for line in path.read_text().splitlines():
        kind, *numbers = line.split()
        numbers = [float(number) for number in numbers]
        if kind == "frame":
            frames.append(dict(shift=numbers, truth=[], found=[]))
        else:
            frames[-1][kind].append(numbers)
    return frames


def trackers(motion):
    cpu = torch.device("cpu")
    yield "ByteTrack", ByteTrack(track_thresh=0.6, match_thresh=0.8, track_buffer=30, frame_rate=30)
    yield "OC-SORT", OcSort(det_thresh=0.6, max_age=30, min_hits=3, asso_threshold=0.3, delta_t=3, inertia=0.2)
    bot = BotSort(None, cpu, False, track_high_thresh=0.6, track_low_thresh=0.1, new_track_thresh=0.7, cmc_method="sof", with_reid=False)
    bot.with_reid, bot.cmc = True, motion
    yield "BoT-SORT", bot
    deepocsort.ReidAutoBackend = NoModel
    deep = deepocsort.DeepOcSort(None, cpu, False, det_thresh=0.6, max_age=30, min_hits=3, iou_threshold=0.3)
    deep.cmc = motion
    yield "Deep OC-SORT", deep


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def measured(frames, found):
    truth_numbers, track_numbers = {}, {}
    data = dict(gt_ids=[], tracker_ids=[], similarity_scores=[], num_timesteps=len(frames))
    for frame, tracks in zip(frames, found):
        number = lambda known, key: known.setdefault(key, len(known))  # noqa: E731
        data["gt_ids"].append(np.array([number(truth_numbers, row[0]) for row in frame["truth"]], dtype=int))
        data["tracker_ids"].append(np.array([number(track_numbers, track[4]) for track in tracks], dtype=int))
        overlaps = [[iou(row[1:], track) for track in tracks] for row in frame["truth"]]
        data["similarity_scores"].append(np.reshape(overlaps, (len(frame["truth"]), len(tracks))).astype(float))
    data["num_gt_ids"], data["num_tracker_ids"] = len(truth_numbers), len(track_numbers)
    data["num_gt_dets"] = sum(map(len, data["gt_ids"]))
    data["num_tracker_dets"] = sum(map(len, data["tracker_ids"]))
    quiet = dict(PRINT_CONFIG=False)
    hota = HOTA().eval_sequence(data)["HOTA"].mean()
    idf1 = Identity(quiet).eval_sequence(data)["IDF1"]
    return f"{hota:.3f} | {idf1:.3f} | {int(CLEAR(quiet).eval_sequence(data)['IDSW'])}"


def main():
    for path in sorted(Path(sys.argv[1]).glob("*.txt")):
        frames, motion = read(path), Motion()
        for name, tracker in trackers(motion):
            found = []
            image = np.zeros((600, 1600, 3), np.uint8)
            for frame in frames:
                motion.shift = frame["shift"]
                rows = np.array(frame["found"], dtype=np.float32).reshape(-1, 5 + 64)
                boxes = np.concatenate([rows[:, :5], np.zeros((len(rows), 1), np.float32)], axis=1)
                given = (boxes, image) if name in ("ByteTrack", "OC-SORT") else (boxes, image, rows[:, 5:])
                found.append([track[:5] for track in tracker.update(*given)])
            print(f"| {path.stem} | {name} | {measured(frames, found)} |")


main()
