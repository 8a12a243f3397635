"""What frames are like: layouts, types, sizes, channels, out=."""

import framerail as fr
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, number_of, numbers_of


def open_clip(clip, **options):
    return fr.VideoReader(clip, output="numpy", **options)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", np.float32, np.dtype("float16")])
@pytest.mark.parametrize("layout", ["TCHW", "THWC", "NCHW"])
def test_layouts_and_types_hold_the_same_values(clip, layout, dtype):
    expected = open_clip(clip).read_frames([33, 1])
    frames = open_clip(clip, layout=layout, dtype=dtype).read_frames([33, 1])
    assert frames.flags.c_contiguous and frames.flags.writeable and frames.dtype == np.dtype(dtype)
    if layout == "THWC":
        assert frames.shape == (2, HEIGHT, WIDTH, 3)
        frames = frames.transpose(0, 3, 1, 2)
    assert (frames.astype(np.float32) == expected).all(), "an 8-bit video has the same numbers in every type"


def test_normalisation(clip):
    plain = open_clip(clip, dtype="float32").read_frames([5])
    unit = open_clip(clip, dtype="float32", normalize=True).read_frames([5])
    np.testing.assert_allclose(unit, plain / 255, atol=1e-5)
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (fr.IMAGENET.mean, fr.IMAGENET.std))
    imagenet = open_clip(clip, normalize=fr.IMAGENET).read_frames([5])  # floats without being asked: uint8 holds no fractions
    np.testing.assert_allclose(imagenet, (plain / 255 - mean) / std, atol=1e-4)
    with pytest.raises(ValueError, match="std"):
        fr.Normalize((0, 0, 0), (1, 0, 1))
    with pytest.raises(ValueError, match="mean"):
        fr.Normalize((0, 0), (1, 1, 1))


def test_channels(clip):
    rgb = open_clip(clip).read_frames([7])[0].astype(int)
    bgr = open_clip(clip, channels="bgr").read_frames([7])[0]
    gray = open_clip(clip, channels="gray").read_frames([7])
    hsv = open_clip(clip, channels="hsv").read_frames([7])[0]
    assert (bgr[::-1] == rgb).all()
    assert gray.shape == (1, 1, HEIGHT, WIDTH) and number_of(gray[0]) == 7
    luma = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
    assert np.abs(gray[0, 0] - luma).mean() < 3
    assert np.abs(hsv[2].astype(int) - rgb.max(axis=0)).max() <= 2 and hsv[0].max() < 180


def test_sizes(clip):
    doubled = open_clip(clip, size=(2 * HEIGHT, 2 * WIDTH)).read_frames([21])
    assert doubled.shape == (1, 3, 2 * HEIGHT, 2 * WIDTH) and number_of(doubled[0], scale=2) == 21
    square = open_clip(clip, size=64, fit="letterbox", pad=200).read_frames([21])[0]
    assert square.shape == (3, 64, 64)
    assert (square[:, 0] == 200).all() and (square[:, -1] == 200).all() and not (square[:, 32] == 200).all()
    area = open_clip(clip, size=(HEIGHT // 2, WIDTH // 2), resize="area").read_frames([21])
    assert number_of(area[0], scale=0.5) == 21


def test_crop(clip):
    whole = open_clip(clip).read_frames([11])
    part = open_clip(clip, crop=(16, 8, 64, 40)).read_frames([11])
    assert part.shape == (1, 3, 40, 64)
    assert np.abs(part.astype(int) - whole[:, :, 8:48, 16:80]).max() <= 1


def raw_clip(path, picture_format, pictures, codec="ffv1"):
    """Writes pictures [T, H, W, C] or [T, H, W] of FFmpeg's format, losslessly."""
    import subprocess

    height, width = pictures.shape[1:3]
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "rawvideo", "-pix_fmt", picture_format, "-s", f"{width}x{height}", "-i", "-"]
    subprocess.run([*command, "-c:v", codec, str(path)], input=pictures.tobytes(), check=True)
    return path


def test_depth_maps_keep_their_numbers(tmp_path):
    depth = np.random.default_rng(3).integers(0, 65536, (2, 40, 64), np.uint16)
    path = raw_clip(tmp_path / "depth.mkv", "gray16le", depth)
    for exact in (None, "swscale"):
        found = open_clip(path, channels="gray", dtype="uint16", exact=exact)[:]
        assert found.dtype == np.uint16 and (found[:, 0] == depth).all()
    floats = open_clip(path, channels="gray", dtype="float32", normalize=True)[:]
    np.testing.assert_allclose(floats[:, 0], depth / 65535, atol=1e-6)


def test_sixteen_bits_are_handed_out_whole(tmp_path):
    colors = np.random.default_rng(4).integers(0, 65536, (1, 30, 50, 3), np.uint16)
    path = raw_clip(tmp_path / "deep.mkv", "rgb48le", colors)
    expected = decode_deep(path)
    found = open_clip(path, dtype="uint16", layout="THWC")[:]
    assert (found == expected).all() and (found == colors).all()
    bgr = open_clip(path, dtype="uint16", layout="THWC", channels="bgr", exact="swscale")[:]
    assert (bgr[..., ::-1] == colors).all()
    assert (open_clip(path, dtype="uint16", exact="swscale")[:] == colors.transpose(0, 3, 1, 2)).all()


def decode_deep(path):
    import subprocess

    height, width = open_clip(path)[0].shape[1:]
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb48le", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint16).reshape(-1, height, width, 3)


@pytest.mark.parametrize("picture_format", ["yuv444p10le", "yuv444p12le", "yuv420p10le"])
def test_deep_video_is_near_swscale(tmp_path, picture_format):
    import subprocess

    path = tmp_path / "deep.mkv"
    source = "gradients=s=96x64:r=5:seed=3:c0=0x204060:c1=0xd0b090,format=gbrp12"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-frames:v", "1", "-pix_fmt", picture_format, "-c:v", "ffv1", str(path)]
    subprocess.run(command, check=True)
    expected = decode_deep(path).astype(int)
    exact = open_clip(path, dtype="uint16", layout="THWC", exact="swscale")[:]
    assert (exact == expected).all(), "bit for bit"
    found = open_clip(path, dtype="uint16", layout="THWC")[:].astype(int)
    # swscale's white is 255 * 256, here it is 65535. It calculates with 14 bits and interpolates chroma, which is repeated here.
    off = np.abs(found * (255 / 256) - expected)
    assert off.mean() < 40 and off.max() < 400, (off.mean(), off.max())
    assert (found % 257 != 0).any(), "between the steps of 8 bits"


@pytest.mark.parametrize("picture_format, codec", [("rgba", "png"), ("yuva420p", "ffv1"), ("yuva444p10le", "prores_ks"), ("rgba64be", "png")])
def test_alpha_is_a_fourth_channel(tmp_path, picture_format, codec):
    import subprocess

    path = tmp_path / ("alpha.mov" if codec != "ffv1" else "alpha.mkv")
    ramp = "color=red:s=64x48:r=5,format=rgba,geq=r='p(X,Y)':g=40:b=200:a='4*X'"
    options = ["-frames:v", "1", "-c:v", codec, "-pix_fmt", picture_format]
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", ramp, *options, str(path)], check=True)
    found = open_clip(path, channels="rgba")[0]
    assert found.shape == (4, 48, 64)
    assert np.abs(found[3].astype(int) - 4 * np.arange(64)).max() <= 3
    assert (found[:3] == open_clip(path)[0]).all()
    halved = open_clip(path, channels="rgba", size=(24, 32), layout="THWC", dtype="float32", normalize=True)[0]
    assert halved.shape == (24, 32, 4) and np.abs(halved[..., 3] * 255 - (8 * np.arange(32) + 2)).max() <= 4


def test_opaque_video_has_an_opaque_fourth_channel(clip):
    assert (open_clip(clip, channels="rgba")[3][3] == 255).all()


def test_old_names_of_options_work_and_warn(clip):
    with pytest.warns(DeprecationWarning, match="fit='letterbox'"):
        old = open_clip(clip, size=64, resize="letterbox").read_frames([2])
    assert (old == open_clip(clip, size=64, fit="letterbox").read_frames([2])).all()
    with pytest.warns(DeprecationWarning, match="'resize'"):
        area = open_clip(clip, size=(20, 30), interpolation="area").read_frames([2])
    assert (area == open_clip(clip, size=(20, 30), resize="area").read_frames([2])).all()
    with pytest.warns(DeprecationWarning):
        assert fr.Preprocess(size=64, resize="letterbox").fit == "letterbox"


@pytest.mark.parametrize(
    "options, words",
    [
        ({"resize": "cubic"}, "resize"),
        ({"fit": "crop"}, "fit"),
        ({"antialias": "yes"}, "antialias"),
        ({"size": (40, 50), "max_size": 60}, "max_size"),
        ({"size": 40, "max_size": 40}, "max_size"),
        ({"size": 64, "fit": "letterbox", "center_crop": 30}, "center_crop"),
        ({"dtype": "uint16", "normalize": True}, "normalize"),
        ({"channels": "rgba", "exact": "swscale", "size": 9}, "size"),
    ],
)
def test_impossible_outputs_are_refused(clip, options, words):
    with pytest.raises(ValueError, match=words):
        open_clip(clip, **options)


def test_set_output_changes_what_comes(clip):
    reader = open_clip(clip)
    reader.set_output(layout="THWC", size=(24, 32))
    assert reader[0].shape == (24, 32, 3)
    with pytest.raises(ValueError, match="dtype"):
        reader.set_output(dtype="complex64")


@pytest.mark.parametrize("mode", ["seek", "stream"])
def test_out_is_written(clip, mode):
    reader = open_clip(clip, mode=mode, dtype="float32")
    out = np.full((3, 3, HEIGHT, WIDTH), -1, np.float32)
    batch = reader.read([50, 2, 2], out=out)
    assert batch.data is out and numbers_of(out) == [50, 2, 2]
    frames = np.zeros((6, 3, HEIGHT, WIDTH), np.float32)
    reader.read_frames_at([0.4], out=frames[2:3])
    assert number_of(frames[2]) == 10 and not frames[[0, 1, 3, 4, 5]].any()


@pytest.mark.parametrize(
    "out, words",
    [
        (np.zeros((1, 3, HEIGHT, WIDTH), np.uint8), "shape"),
        (np.zeros((2, 3, HEIGHT, WIDTH), np.int8), "uint8"),
        (np.zeros((2, 3, HEIGHT, WIDTH), np.float32), "uint8"),
        (np.zeros((2, HEIGHT, WIDTH, 3), np.uint8).transpose(0, 3, 1, 2), "contiguous"),
        (np.broadcast_to(np.zeros((1, 3, HEIGHT, WIDTH), np.uint8), (2, 3, HEIGHT, WIDTH)), ""),
        ([[0]], "DLPack"),
    ],
)
def test_out_that_does_not_fit_is_refused(clip, out, words):
    with pytest.raises(ValueError, match="option 'out'.*" + words):
        open_clip(clip).read([0, 1], out=out)


def test_bfloat16_needs_a_library_that_has_it(clip):
    reader = open_clip(clip, dtype="bfloat16")
    try:
        import ml_dtypes
    except ImportError:
        with pytest.raises(ValueError, match="bfloat16"):
            reader.read_frames([3])
    else:
        frames = reader.read_frames([3])
        assert frames.dtype == ml_dtypes.bfloat16 and number_of(frames[0]) == 3


def test_dlpack_hands_over_without_a_copy(clip):
    reader = fr.VideoReader(clip, output="dlpack")
    tensor = reader.read_frames([4, 5])
    assert tensor.shape == (2, 3, HEIGHT, WIDTH) and tensor.dtype == "uint8" and tensor.device == "cpu"
    assert tensor.__dlpack_device__() == (1, 0) and len(tensor) == 2
    address = tensor.address
    by_dlpack, by_interface = np.from_dlpack(tensor), np.asarray(tensor)
    assert by_dlpack.ctypes.data == by_interface.ctypes.data == address
    del tensor, by_interface
    others = [reader.read_frames([9, 10]) for _ in range(4)]
    assert address not in [other.address for other in others], "held, so not written again"
    assert numbers_of(by_dlpack) == [4, 5]


def test_capsules_keep_their_promises(clip):
    tensor = fr.VideoReader(clip, output="dlpack").read_frames([4])
    for version in (None, (0, 8), (1, 0), (1, 1)):
        capsule = tensor.__dlpack__(max_version=version)
        assert ("versioned" in repr(capsule)) == (version is not None and version[0] >= 1)
        del capsule
    with pytest.raises(BufferError):
        tensor.__dlpack__(dl_device=(2, 0))
    assert number_of(np.from_dlpack(tensor)[0]) == 4, "capsules that nobody used took nothing away"


def test_a_copy_is_made_where_one_is_asked_for(clip):
    tensor = fr.VideoReader(clip, output="dlpack").read_frames([4])
    copy, same = np.from_dlpack(tensor, copy=True), np.from_dlpack(tensor, copy=False)
    assert copy.ctypes.data != tensor.address == same.ctypes.data and copy.flags.writeable
    copy[:] = 0
    assert number_of(same[0]) == 4
    assert np.from_dlpack(tensor, device="cpu").ctypes.data == tensor.address


def test_read_only_planes_keep_their_flag_or_are_copied(clip):
    found = []

    def look(items):
        plane = items[0].planes()[0]
        array = np.from_dlpack(plane)
        # A consumer that has never heard of the flag; PyTorch reads the new form and drops it.
        before_version_1, of_torch = plane.__dlpack__(), as_torch(plane)
        found.append((array.flags.writeable, array.ctypes.data == plane.address, repr(before_version_1), repr(of_torch)))
        with pytest.raises(BufferError, match="read-only"):
            plane.__dlpack__(copy=False)
        free = np.from_dlpack(plane, copy=True)
        assert free.strides == array.strides and (free == array).all() and free.flags.writeable
        free[:] = 0
        assert number_of(array[None]) == items[0].index

    as_torch = eval("lambda plane: plane.__dlpack__(max_version=(1, 0))", {"__name__": "torch.utils.dlpack"})
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! sample every=30 ! null")
    pipeline.on("sample", look)
    pipeline.run()
    assert len(found) == 2
    for is_writable, is_same, before_version_1, of_torch in found:
        assert not is_writable and is_same and "versioned" not in before_version_1 and "versioned" in of_torch
