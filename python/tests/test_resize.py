"""Resizing and transforms against torchvision's, on frames at their own size."""

import subprocess

import pytest

torch = pytest.importorskip("torch")
v2 = pytest.importorskip("torchvision.transforms.v2")

import framerail as fr  # noqa: E402
import numpy as np  # noqa: E402

FILTERS = {"bilinear": v2.InterpolationMode.BILINEAR, "bicubic": v2.InterpolationMode.BICUBIC, "nearest": v2.InterpolationMode.NEAREST}


def psnr(found, expected):
    error = ((found.double() - expected.double()) ** 2).mean().item()
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def generated(path, source, options=(), frames=3):
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", source, "-frames:v", str(frames), *options, str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Hard edges and text, smooth detail, noise beyond RGB's limits, and the same decoded to other formats."""
    folder = tmp_path_factory.mktemp("pictures")
    x264 = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "12")
    made = [
        generated(folder / "edges.mp4", "testsrc2=s=426x240:r=5", (*x264, "-pix_fmt", "yuv420p")),
        generated(folder / "detail.mkv", "mandelbrot=s=320x322:r=5", (*x264, "-pix_fmt", "yuv444p")),
        generated(folder / "noise.mkv", "testsrc2=s=320x180:r=5,noise=alls=60:all_seed=5", (*x264, "-pix_fmt", "yuv422p")),
        generated(folder / "packed.mkv", "testsrc2=s=322x181:r=5", ("-c:v", "ffv1", "-pix_fmt", "bgr0")),
    ]
    return [(path, fr.VideoReader(path)[:]) for path in made]


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("filter", FILTERS)
def test_resizing_is_torchvisions(pictures, filter, antialias):
    for path, own in pictures:
        for size in ((224, 224), 112, (64, 100), (300, 500), 33):
            # Whole numbers are rounded and cut off between rows and columns there, which shows where a plain cubic overshoots in noise.
            pixels = own if antialias or filter == "nearest" else own.float()
            expected = v2.functional.resize(pixels, size, FILTERS[filter], antialias=antialias).clamp(0, 255).round().to(torch.uint8)
            found = fr.VideoReader(path, size=size, resize=filter, antialias=antialias)[:]
            assert found.shape == expected.shape
            near = psnr(found, expected)
            assert near >= 50, f"{path.name} {size} {filter} antialias={antialias}: {near:.1f} dB"
            if filter == "nearest":
                assert (found == expected).all()


def test_antialiased_is_the_default_and_the_filter_is_chosen(pictures):
    path, own = pictures[0]
    assert (fr.VideoReader(path, size=60)[:] == fr.VideoReader(path, size=60, resize="bilinear", antialias=True)[:]).all()
    plain = fr.VideoReader(path, size=60, antialias=False)[:]
    assert psnr(plain, v2.functional.resize(own, 60, antialias=True)) < 40


@pytest.mark.parametrize("size, max_size", [(100, None), (100, 120), ((50, 70), None), ([64], None), (500, 600), (None, 90)])
def test_sizes_mean_what_torchvision_means(pictures, size, max_size):
    for path, own in pictures:
        expected = v2.Resize(size, max_size=max_size)(own[:1])
        found = fr.VideoReader(path, size=size, max_size=max_size)[0]
        assert found.shape == expected.shape[1:]


def test_deep_frames_are_resized_at_full_depth(tmp_path):
    options = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-pix_fmt", "yuv420p10le")
    path = generated(tmp_path / "deep.mkv", "gradients=s=320x180:r=5:c0=black:c1=white:x0=0:y0=0:x1=319:y1=179", options)
    own = fr.VideoReader(path, dtype="float32")[:]
    assert (own != own.round()).any(), "between the steps of 8 bits"
    found = fr.VideoReader(path, dtype="float32", size=(90, 111))[:]
    assert (found - v2.functional.resize(own, (90, 111), antialias=True)).abs().max() < 0.01
    short = fr.VideoReader(path, dtype="uint16", size=(90, 111))[:].to(torch.float32)
    assert (short / 257 - found).abs().max() < 0.01


TRANSFORMS = [
    [v2.Resize(96), v2.CenterCrop(80)],
    [v2.Resize((60, 90), interpolation=v2.InterpolationMode.BICUBIC, antialias=True), v2.ToDtype(torch.float32, scale=True)],
    [v2.ToImage(), v2.Resize(70, max_size=110), v2.ToDtype(torch.float32, scale=True), v2.Normalize(fr.IMAGENET.mean, fr.IMAGENET.std)],
    [v2.CenterCrop((100, 500)), v2.ToDtype(torch.float32), v2.Normalize([100.0] * 3, [50.0] * 3)],
    [v2.Compose([v2.Resize(64), v2.ToDtype(torch.float16, scale=True)])],
    [v2.Resize((80, 80)), v2.Grayscale(), v2.Resize((40, 40))],
    [v2.GaussianBlur(3, 1.0), v2.Resize(50)],
    [v2.ToDtype(torch.float32, scale=True), v2.Resize(50, antialias=True)],
    [lambda frames: frames.flip(-1)],
]


@pytest.mark.parametrize("transforms", TRANSFORMS)
def test_transforms_give_what_calling_them_gives(pictures, transforms):
    for path, own in pictures:
        expected = own
        for transform in transforms:
            expected = transform(expected)
        with fr.VideoReader(path, transforms=transforms) as reader:
            found, batches = reader[:], [batch.data for batch in reader.batches(2)]
            assert found.shape == expected.shape and found.dtype == expected.dtype
            assert (torch.cat(batches) == found).all()
        # Fused, frames are not rounded to 8 bits on the way.
        unit = 1.0 if expected.dtype == torch.uint8 else 0.3 if expected.max() > 30 else 0.012
        assert (found.double() - expected.double()).abs().mean() < 0.6 * unit, path.name


def test_transforms_that_can_be_are_fused():
    from framerail.options import OUTPUT_DEFAULTS
    from framerail.transforms import split

    blur = v2.GaussianBlur(3)
    steps = [v2.Resize(256), v2.CenterCrop(224), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*map(list, ([0.5] * 3, [0.2] * 3))), blur]
    options, rest = split({**OUTPUT_DEFAULTS, "transforms": steps})
    assert rest == (blur,) and "transforms" not in options
    assert (options["size"], options["center_crop"], options["dtype"]) == (256, (224, 224), "float32")
    assert options["normalize"] == fr.Normalize((0.5,) * 3, (0.2,) * 3)
    # A size that was asked for comes first.
    assert split({**OUTPUT_DEFAULTS, "size": 100, "transforms": [v2.Resize(50)]})[1] != ()


def test_transforms_that_cannot_be_are_refused(pictures):
    path = pictures[0][0]
    for options, words in (
        ({"output": "numpy", "transforms": [v2.GaussianBlur(3)]}, "output='torch'"),
        ({"layout": "THWC", "transforms": [v2.GaussianBlur(3)]}, "layout"),
        ({"transforms": [3]}, "transforms"),
    ):
        with pytest.raises(ValueError, match=words):
            fr.VideoReader(path, **options)
    reader = fr.VideoReader(path, transforms=[v2.RandomHorizontalFlip(1.0)])
    with pytest.raises(ValueError, match="'out'"):
        reader.read([0], out=torch.zeros(1, 3, 240, 426, dtype=torch.uint8))
