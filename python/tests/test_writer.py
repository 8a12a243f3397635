"""VideoWriter: what is written beside what FFmpeg reads of it."""

import io
import json
import subprocess
from fractions import Fraction

import framerail as fr
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, decode_with_ffmpeg, number_picture, numbers_of, require_x264, requiring_mp3


def probe(path, entries, stream="v:0"):
    command = ["ffprobe", "-v", "error", "-select_streams", stream, "-show_entries", entries, "-of", "json", str(path)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def stream_of(path, stream="v:0"):
    entries = "stream=codec_name,pix_fmt,color_space,color_range,color_primaries,color_transfer,r_frame_rate,nb_frames,sample_rate,channels"
    return probe(path, entries, stream)["streams"][0]


def times_of(path):
    return [float(frame["pts_time"]) for frame in probe(path, "packet=pts_time")["packets"]]


@pytest.fixture(scope="module")
def pictures():
    """30 numbered frames, [T, H, W, 3]."""
    return np.stack([number_picture(number) for number in range(30)])


def test_frames_come_back(tmp_path, pictures):
    require_x264()
    with fr.VideoWriter(tmp_path / "a.mp4", fps=30, crf=10, preset="ultrafast") as writer:
        writer.write(pictures[0])
        writer.write(pictures[1:20])
        writer.write(pictures[20:])
    report = writer.close()
    assert (report.frames, report.codec, report.pixel_format) == (30, "libx264", "yuv420p") and report.warnings == []
    assert report.path == str(tmp_path / "a.mp4") and report.bytes == (tmp_path / "a.mp4").stat().st_size
    stream = stream_of(tmp_path / "a.mp4")
    assert stream["color_space"] == stream["color_primaries"] == stream["color_transfer"] == "bt709" and stream["color_range"] == "tv"
    assert stream["r_frame_rate"] == "30/1" and stream["nb_frames"] == "30"
    with fr.VideoReader(tmp_path / "a.mp4", layout="THWC", output="numpy") as reader:
        assert numbers_of(reader[:], "THWC") == list(range(30))
        assert np.abs(reader[5].astype(int) - pictures[5]).mean() < 3
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def lossless(path, frames, **options):
    with fr.VideoWriter(path, codec="ffv1", **options) as writer:
        writer.write(frames)
    return path


def test_layouts_views_and_batches_give_the_same_file(tmp_path, pictures):
    planar = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
    kinds = {
        "interleaved": pictures,
        "planar": planar,
        "view": pictures.transpose(0, 3, 1, 2),
        "view_back": planar.transpose(0, 2, 3, 1),
        "strided": np.repeat(pictures, 2, axis=2)[:, :, ::2],
    }
    for name, frames in kinds.items():
        lossless(tmp_path / f"{name}.mkv", frames)
    frozen = pictures.copy()
    frozen.flags.writeable = False
    lossless(tmp_path / "frozen.mkv", frozen)
    with fr.VideoWriter(tmp_path / "single.mkv", codec="ffv1") as writer:
        for frame in planar:
            writer.write(frame)
    files = [raw(path) for path in sorted(tmp_path.iterdir())]
    assert len(files) == 7 and all(file == files[0] for file in files)


def raw(path, pixel_format="yuv420p"):
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-f", "rawvideo", "-pix_fmt", pixel_format, "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize("color,name", [("bt709", "bt709"), ("bt601", "smpte170m"), ("bt2020", "bt2020nc"), ("none", None)])
@pytest.mark.parametrize("full", [False, True])
def test_matrix_and_range_are_those_of_the_file(tmp_path, color, name, full):
    y, x = np.mgrid[0:64, 0:64]
    smooth = np.stack([4 * x, 4 * y, 252 - 2 * x - 2 * y], axis=-1).astype(np.uint8)[None]
    path = lossless(tmp_path / "a.mkv", smooth, color=color, full_range=full)
    assert stream_of(path).get("color_space") == name
    # libswscale's conversion with the same matrix: luma within 1, chroma within 2 where colours change slowly.
    matrix = {"bt709": "bt709", "bt601": "bt601", "bt2020": "bt2020", "none": "bt601"}[color]
    command = ["ffmpeg", "-v", "error", "-nostdin", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x64", "-i", "-", "-vf",
               f"scale=out_color_matrix={matrix}:out_range={'full' if full else 'limited'}:flags=accurate_rnd+full_chroma_int",
               "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"]  # fmt: skip
    wanted = np.frombuffer(subprocess.run(command, input=smooth.tobytes(), capture_output=True, check=True).stdout, np.uint8).astype(int)
    # As coded: an untagged full-range file would be read as limited.
    coded = np.frombuffer(raw(path, "yuv420p" if not full else "yuvj420p"), np.uint8).astype(int)
    if not (full and color == "none"):
        assert np.abs(coded[:4096] - wanted[:4096]).max() <= 1
        assert np.abs(coded[4096:] - wanted[4096:]).max() <= 2
    back = decode_with_ffmpeg(path)[0].astype(int)
    if not (full and color == "none"):
        assert np.abs(back[2:-2, 2:-2] - smooth[0, 2:-2, 2:-2]).max() <= 9


@pytest.mark.parametrize("pixel_format", [None, "yuv444p", "yuv420p10le"])
def test_exact_frames_are_those_of_ffmpegs_command(tmp_path, pictures, pixel_format):
    command = ["ffmpeg", "-v", "error", "-nostdin", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-i", "-",
               "-f", "rawvideo", "-pix_fmt", pixel_format or "yuv420p", "-"]  # fmt: skip
    wanted = subprocess.run(command, input=pictures.tobytes(), capture_output=True, check=True).stdout
    for name, frames in {"a": pictures, "b": np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))}.items():
        path = lossless(tmp_path / f"{name}.mkv", frames, color="none", exact="swscale", pixel_format=pixel_format)
        assert raw(path, pixel_format or "yuv420p") == wanted, name
    with pytest.raises(ValueError, match="exact"):
        fr.VideoWriter(tmp_path / "c.mkv", exact="zscale")


def test_grey_16_bits_and_other_formats(tmp_path, pictures):
    require_x264()
    grey = pictures[:, :, :, 0]
    path = lossless(tmp_path / "grey.mkv", grey[:, None])
    assert numbers_of(decode_with_ffmpeg(path), "THWC") == list(range(30))
    wide = pictures.astype(np.uint16) * 257
    path = lossless(tmp_path / "wide.mkv", wide)
    assert stream_of(path)["pix_fmt"] == "yuv420p10le"
    with fr.VideoWriter(tmp_path / "wide.mp4") as writer:
        writer.write(wide.astype(">u2"))
    assert writer.close().pixel_format == "yuv420p10le" and len(decode_with_ffmpeg(tmp_path / "wide.mp4")) == 30
    luma = np.frombuffer(raw(path, "yuv420p10le"), "<u2")[: WIDTH * HEIGHT].reshape(HEIGHT, WIDTH)
    assert abs(int(luma[0, 0]) - (64 + 16 * 876 / 255)) <= 1
    for name in ("bgr0", "yuv444p", "yuv422p10le"):
        path = lossless(tmp_path / f"{name}.mkv", pictures, pixel_format=name)
        assert stream_of(path)["pix_fmt"] == name
    exact = decode_with_ffmpeg(lossless(tmp_path / "rgb.mkv", pictures.transpose(0, 3, 1, 2), pixel_format="bgr0"))
    np.testing.assert_array_equal(exact, pictures)
    # Odd sizes keep their size.
    path = lossless(tmp_path / "odd.mkv", pictures[:, :95, :127])
    assert decode_with_ffmpeg(path).shape == (30, 95, 127, 3)
    with fr.VideoWriter(tmp_path / "odd.mp4") as writer:
        writer.write(pictures[:, :95, :127])
    assert decode_with_ffmpeg(tmp_path / "odd.mp4").shape == (30, 95, 127, 3)


def test_times(tmp_path, pictures):
    times = [0.0, 0.04, 0.1, 0.5, 2.0]
    with fr.VideoWriter(tmp_path / "vfr.mp4", fps=25) as writer:
        writer.write(pictures[:2], pts=times[:2])
        writer.write(pictures[2], pts=times[2])
        writer.write(pictures[3:5], pts=np.array(times[3:]))
        with pytest.raises(ValueError, match="not after the previous one"):
            writer.write(pictures[5], pts=2.0)
        with pytest.raises(ValueError, match="2 times for 1 frames"):
            writer.write(pictures[5], pts=[3.0, 4.0])
    with fr.VideoReader(tmp_path / "vfr.mp4") as reader:
        assert reader.times.seconds.tolist() == pytest.approx(times)
    with fr.VideoWriter(tmp_path / "ntsc.mp4", fps=29.97) as writer:
        writer.write(pictures)
    assert stream_of(tmp_path / "ntsc.mp4")["r_frame_rate"] == "30000/1001"
    with fr.VideoReader(tmp_path / "ntsc.mp4") as reader:
        assert reader.times.seconds[29] == pytest.approx(29 * 1001 / 30000, abs=1e-6)
    with fr.VideoWriter(tmp_path / "slow.mp4", fps=Fraction(1, 2)) as writer:
        writer.write(pictures[:2])
    assert probe(tmp_path / "slow.mp4", "format=duration")["format"]["duration"] == "4.000000"


RATE = 48_000


def test_a_clap_stays_with_its_flash(tmp_path):
    frames = np.full((75, 64, 64, 3), 16, np.uint8)
    sound = np.zeros((1, 3 * RATE), np.float32)
    for second in (0, 1, 2):
        frames[25 * second + 5] = 235
        sound[0, round((second + 0.2) * RATE)] = 0.9
    with fr.VideoWriter(tmp_path / "a.mov", fps=25, audio_rate=RATE, audio_channels=1, audio_codec="pcm_f32le") as writer:
        for second in (0, 1, 2):
            writer.write_audio(sound[:, second * RATE : (second + 1) * RATE])
            writer.write(frames[25 * second : 25 * (second + 1)])
    assert stream_of(tmp_path / "a.mov", "a:0")["codec_name"] == "pcm_f32le"
    with fr.VideoReader(tmp_path / "a.mov", output="numpy") as reader:
        flashes = np.flatnonzero(reader[:].mean(axis=(1, 2, 3)) > 100)
        heard = reader.audio(0.0, 3.0)
        assert flashes.tolist() == [5, 30, 55] and heard.gaps == []
        np.testing.assert_array_equal(heard.data, sound)
    # Lossy: the clap is spread, and stays where it was.
    with fr.VideoWriter(tmp_path / "a.mp4", fps=25, audio_rate=RATE, audio_channels=1) as writer:
        writer.write(frames)
        writer.write_audio(sound)
    assert stream_of(tmp_path / "a.mp4", "a:0")["codec_name"] == "aac"
    with fr.VideoReader(tmp_path / "a.mp4", output="numpy") as reader:
        heard = reader.audio(0.9, 1.5).data[0]
        assert abs(int(np.argmax(np.abs(heard))) - round(0.3 * RATE)) <= 1


def test_a_track_is_copied(tmp_path, pictures):
    source = tmp_path / "source.mp4"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=3", "-f", "lavfi", "-i", "color=s=64x64:d=3", str(source)], check=True
    )
    with fr.VideoWriter(tmp_path / "a.mp4", fps=30, audio=source) as writer:
        writer.write(pictures)
    report = writer.close()
    stream = stream_of(tmp_path / "a.mp4", "a:0")
    assert stream["codec_name"] == "aac" and report.warnings == []
    with fr.AudioReader(source, output="numpy") as before, fr.AudioReader(tmp_path / "a.mp4", output="numpy") as after:
        heard = after.read(0.1, 0.9).data
        np.testing.assert_array_equal(heard, before.read(0.1, 0.9).data)
        assert after.read().duration == pytest.approx(1.0, abs=0.05)
    with pytest.raises(ValueError, match="source.mp4"):
        fr.VideoWriter(source, audio=source, overwrite=True)
    with pytest.raises(fr.DecodeError, match="no audio"):
        lossless(tmp_path / "silent.mkv", pictures)
        fr.VideoWriter(tmp_path / "b.mp4", audio=tmp_path / "silent.mkv")


def test_file_like_targets(tmp_path, pictures):
    buffer = io.BytesIO()
    with fr.VideoWriter(buffer, fps=30, format="mp4") as writer:
        writer.write(pictures)
        assert buffer.getvalue() == b""
    assert writer.close().path is None
    with fr.VideoReader(buffer.getvalue(), layout="THWC", output="numpy") as reader:
        assert numbers_of(reader[:], "THWC") == list(range(30))
    with pytest.raises(ValueError, match="'format'"):
        fr.VideoWriter(io.BytesIO())
    with pytest.raises(TypeError, match="target"):
        fr.VideoWriter(7)


def test_the_name_is_taken_by_complete_files_alone(tmp_path, pictures):
    path = tmp_path / "a.mp4"
    with pytest.raises(RuntimeError, match="mine"):
        with fr.VideoWriter(path) as writer:
            writer.write(pictures)
            assert not path.exists()
            raise RuntimeError("mine")
    assert not path.exists()
    kept = [other for other in tmp_path.iterdir() if other.suffix == ".mp4"]
    assert len(kept) == 1 and "unfinished" in kept[0].name and len(decode_with_ffmpeg(kept[0])) == 30
    kept[0].unlink()
    with pytest.raises(ValueError, match="no frame was written"):
        with fr.VideoWriter(path):
            pass
    writer = fr.VideoWriter(path)
    writer.write(pictures)
    del writer
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        fr.VideoWriter(path)
    with fr.VideoWriter(path, overwrite=True) as writer:
        writer.write(pictures)
        assert path.read_bytes() == b"precious"
    assert len(decode_with_ffmpeg(path)) == 30
    with pytest.raises(ValueError, match="closed"):
        writer.write(pictures)


@pytest.mark.parametrize(
    "options,words",
    [
        ({"codec": "x264"}, "no video encoder of this name"),
        ({"fps": 0}, "'fps'"),
        ({"crf": 20, "bit_rate": 1000}, "exclude"),
        ({"pixel_format": "yuv42p"}, "'pixel_format'"),
        ({"color": "rgb"}, "'color'"),
        ({"audio_rate": 48_000, "audio_channels": 20}, "audio_channels"),
        ({"audio_codec": "aac", "audio_rate": 48_000}, "audio_codec"),
        ({"layout": "CHWT"}, "'layout'"),
    ],
)
def test_bad_options_say_what_is_wrong(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        fr.VideoWriter(tmp_path / "a.mp4", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_codec_is_encoded_by_its_usual_encoder(tmp_path, pictures):
    for codec in ("h264", "mpeg4", "FFV1"):
        with fr.VideoWriter(tmp_path / f"{codec}.mkv", codec=codec) as writer:
            writer.write(pictures[:2])
        assert stream_of(tmp_path / f"{codec}.mkv", "v:0")["codec_name"] == codec.lower()


def test_bad_frames_say_what_is_wrong(tmp_path, pictures):
    with pytest.raises(ValueError, match="a.xyz"):
        fr.VideoWriter(tmp_path / "a.xyz")
    with pytest.raises(ValueError, match="holds one frame"):
        fr.VideoWriter(tmp_path / "a.png")
    with pytest.raises(ValueError, match="'format': 'mp5'"):
        fr.VideoWriter(io.BytesIO(), format="mp5")
    writer = fr.VideoWriter(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="float32.*round"):
        writer.write(pictures.astype(np.float32))
    with pytest.raises(ValueError, match="give \\[T, C, H, W\\]"):
        writer.write(pictures[None])
    with pytest.raises(ValueError, match="may be either"):
        writer.write(np.zeros((3, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="channels"):
        writer.write(np.zeros((2, 8, 8, 4), np.uint8))
    with pytest.raises(ValueError, match="audio"):
        writer.write_audio(np.zeros((2, 100), np.float32))
    writer.write(pictures[:2])
    with pytest.raises(ValueError, match="the first one was 128x96"):
        writer.write(pictures[:2, :64])
    writer.write(pictures[2])
    assert writer.close().frames == 3


def test_a_full_disk_is_an_error_of_the_call(tmp_path):
    noise = np.random.default_rng(1).integers(0, 255, (8, 480, 640, 3), np.uint8)
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(OSError):
            with fr.VideoWriter(tmp_path / "a.mkv", codec="ffv1") as writer:
                for _ in range(8):
                    writer.write(noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "a.mkv").exists()


def test_tensors(tmp_path, pictures):
    torch = pytest.importorskip("torch")
    lossless(tmp_path / "array.mkv", pictures)
    lossless(tmp_path / "tensor.mkv", torch.from_numpy(pictures).permute(0, 3, 1, 2))
    assert raw(tmp_path / "array.mkv") == raw(tmp_path / "tensor.mkv")
    with fr.VideoReader(tmp_path / "array.mkv") as reader, fr.VideoWriter(tmp_path / "batch.mkv", codec="ffv1") as writer:
        for batch in reader.batches(8):
            writer.write(batch)
    assert writer.close().frames == 30


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.m4a", "a.ogg"])
def test_audio_files(tmp_path, name):
    seconds = np.arange(RATE) / RATE
    sound = np.stack([0.3 * np.sin(2 * np.pi * 440 * seconds), 0.2 * np.cos(2 * np.pi * 330 * seconds)]).astype(np.float32)
    with requiring_mp3(), fr.AudioWriter(tmp_path / name, RATE, 2) as writer:
        writer.write(sound[:, :10_000])
        writer.write(sound[:, 10_000:])
        assert not (tmp_path / name).exists()
    report = writer.close()
    assert (report.sample_rate, report.num_channels, report.samples, report.warnings) == (RATE, 2, RATE, [])
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with fr.AudioReader(tmp_path / name, output="numpy") as audio:
        heard = audio.read()
    # FFmpeg's AAC encoder needs a while until it follows.
    tolerance = {"a.wav": 1 / 32_000, "a.flac": 1e-6, "a.m4a": 0.2}.get(name, 0.06)
    assert np.abs(heard.data[:, 2000:40_000] - sound[:, 2000:40_000]).max() <= tolerance


def test_audio_files_of_other_forms(tmp_path):
    sound = np.zeros((1, 4800), np.float32)
    with fr.AudioWriter(tmp_path / "a.wav", RATE, 1, file_rate=16_000, file_channels=2, codec="pcm_f32le") as writer:
        writer.write(sound)
    stream = stream_of(tmp_path / "a.wav", "a:0")
    assert (stream["codec_name"], stream["sample_rate"], stream["channels"]) == ("pcm_f32le", "16000", 2)
    buffer = io.BytesIO()
    with fr.AudioWriter(buffer, RATE, 1, format="flac") as writer:
        writer.write(sound[0])
    assert buffer.getvalue()[:4] == b"fLaC"
    with requiring_mp3(), fr.AudioWriter(tmp_path / "a.mp3", 10_000, 1) as writer:
        writer.write(sound)
    assert "resampled to 11025 Hz" in writer.close().warnings[0]
    wrong = [
        ({"codec": "flaac"}, "'codec': 'flaac': this FFmpeg has no audio encoder"), ({"sample_rate": 0}, "sample_rate"), ({"channels": 99}, "channels"),
    ]  # fmt: skip
    for options, words in wrong:
        with pytest.raises(ValueError, match=words):
            fr.AudioWriter(tmp_path / "b.wav", **{"sample_rate": RATE, "channels": 1, **options})
    with pytest.raises(FileExistsError):
        fr.AudioWriter(tmp_path / "a.wav", RATE)
    with pytest.raises(RuntimeError), fr.AudioWriter(tmp_path / "c.wav", RATE, 1) as writer:
        writer.write(sound)
        raise RuntimeError
    assert not (tmp_path / "c.wav").exists()
    with fr.AudioWriter(tmp_path / "d.wav", RATE, 1) as writer, pytest.raises(ValueError, match="'samples'"):
        writer.write(np.zeros((2, 5), np.float32))


@pytest.mark.parametrize("write", [fr.VideoWriter, lambda path, **options: fr.AudioWriter(path, 48000, **options)])
def test_files_that_exist_name_the_option_as_python_spells_it(tmp_path, write):
    path = tmp_path / "a.mkv"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError) as caught:
        write(path).close()
    assert "overwrite=True" in str(caught.value) and "--" not in str(caught.value)
    # Texts would all be true.
    with pytest.raises(ValueError, match="option 'overwrite': 'no'"):
        write(path, overwrite="no")
    assert path.read_bytes() == b"precious"
    writer = write(path, overwrite=True)
    assert repr(writer) == f"{type(writer).__name__}({str(path)!r}, open)"
