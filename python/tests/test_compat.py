"""Other readers' interfaces: their names, and the same frames as the readers themselves where these are installed."""

import io
import json
import subprocess
import sys

import framerail as fr
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, decode_with_ffmpeg, numbers_of

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def pictures(clip):
    return torch.from_numpy(decode_with_ffmpeg(clip).copy())


class TestTorchcodec:
    def test_frames_equal_ffmpegs_bit_for_bit(self, clip, pictures):
        from framerail.compat.torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(clip)
        assert len(decoder) == decoder.metadata.num_frames == 60
        assert decoder.metadata.average_fps == pytest.approx(25) and decoder.metadata.end_stream_seconds == pytest.approx(2.4)
        wanted = pictures.permute(0, 3, 1, 2)
        assert torch.equal(decoder[7], wanted[7]) and torch.equal(decoder[-1], wanted[-1])
        assert decoder[5:9].is_contiguous(memory_format=torch.channels_last) and torch.equal(decoder[5:9], wanted[5:9])
        batch = decoder.get_frames_at([30, 2, -1, 2])
        assert torch.equal(batch.data, wanted[[30, 2, 59, 2]])
        assert batch.pts_seconds.tolist() == pytest.approx([1.2, 0.08, 2.36, 0.08])
        frame = decoder.get_frame_played_at(1.01)
        assert torch.equal(frame.data, wanted[25]) and frame.pts_seconds == pytest.approx(1.0)
        played = decoder.get_frames_played_in_range(0.99, 1.1)
        assert played.pts_seconds.tolist() == pytest.approx([0.96, 1.0, 1.04, 1.08])
        assert torch.equal(VideoDecoder(clip, dimension_order="NHWC")[3], pictures[3])
        slow = decoder.get_frames_played_in_range(0.0, 2.0, fps=5)
        assert torch.equal(slow.data, wanted[:50:5]) and slow.duration_seconds.tolist() == pytest.approx([0.2] * 10)

    def test_sources_types_and_transforms(self, clip, pictures):
        from framerail.compat.torchcodec.decoders import VideoDecoder
        from framerail.compat.torchcodec.transforms import CenterCrop, Resize

        content = clip.read_bytes()
        for source in (str(clip), content, torch.frombuffer(bytearray(content), dtype=torch.uint8), open(clip, "rb")):
            assert torch.equal(VideoDecoder(source, dimension_order="NHWC")[10], pictures[10])
        with pytest.raises(TypeError, match="Unknown source type"):
            VideoDecoder(3)
        with pytest.raises(TypeError, match="binary reading"):
            VideoDecoder(open(clip))
        with pytest.raises(ValueError, match="No valid stream found"):
            VideoDecoder(clip, stream_index=7)
        floats = VideoDecoder(clip, output_dtype=torch.float32, dimension_order="NHWC")[4]
        deep = torch.from_numpy(decode_with_ffmpeg(clip, "rgb48le", 6)[4].copy().view("<u2").astype(np.int32))
        assert torch.equal((floats * 65535).round().to(torch.int32), deep)
        cropped = VideoDecoder(clip, transforms=[CenterCrop((40, 60))])
        assert torch.equal(cropped[4], pictures[4, 28:68, 34:94].permute(2, 0, 1))
        assert VideoDecoder(clip, transforms=[Resize((48, 64))])[2:4].shape == (2, 3, 48, 64)
        assert VideoDecoder(clip, transforms=[Resize((48, 64)), CenterCrop((32, 32))])[2].shape == (3, 32, 32)
        assert VideoDecoder(clip, transforms=[Resize((48, 64)), CenterCrop((32, 32))])[5:5].shape == (0, 3, 32, 32)
        with pytest.raises(ValueError, match="larger than the frame"):
            VideoDecoder(clip, transforms=[CenterCrop((400, 60))])

    def test_what_torchvisions_transforms_mean_and_the_decoder_does_not_do_is_refused(self, clip):
        from framerail.compat.torchcodec.decoders import VideoDecoder

        v2 = pytest.importorskip("torchvision.transforms.v2")
        for transform, words in (
            (v2.Resize((48, 64), interpolation=v2.InterpolationMode.BICUBIC), "must use bilinear interpolation"),
            (v2.Resize((48, 64), antialias=False), "must have antialias enabled"),
            (v2.Resize(None, max_size=48), "must have a size specified"),
            (v2.Resize(48), r"must have a \(height, width\) pair"),
            (v2.RandomCrop((32, 32), padding=4), "must not specify padding"),
            (v2.RandomCrop((32, 32), pad_if_needed=True), "must not specify pad_if_needed"),
            (v2.RandomCrop((32, 32), fill=9), "fill must be 0"),
            (v2.RandomCrop((32, 32), padding_mode="edge"), "padding_mode must be constant"),
            (v2.GaussianBlur(3), "Unsupported transform"),
        ):
            with pytest.raises(ValueError, match=words):
                VideoDecoder(clip, transforms=[transform])
        assert VideoDecoder(clip, transforms=[v2.RandomCrop(32)])[0].shape == (3, 32, 32)

    def test_custom_frame_mappings_are_checked(self, clip):
        from framerail.compat.torchcodec.decoders import VideoDecoder

        frames = [{"pts": 512 * at, "duration": 512, "key_frame": int(at % 12 == 0)} for at in range(60)]
        assert len(VideoDecoder(clip, custom_frame_mappings=json.dumps({"frames": frames}))) == 60
        for bad in ("{}", "no json", '{"frames": [{"pts": 3}]}'):
            with pytest.raises(ValueError, match="Invalid custom frame mappings"):
                VideoDecoder(clip, custom_frame_mappings=bad)

    def test_audio_equals_ffmpegs_bit_for_bit(self, av_clip):
        from framerail.compat.torchcodec.decoders import AudioDecoder

        raw = subprocess.run(
            ["ffmpeg", "-v", "error", "-i", str(av_clip), "-f", "f32le", "-c:a", "pcm_f32le", "-"], capture_output=True, check=True
        ).stdout
        wanted = torch.from_numpy(np.frombuffer(raw, np.float32).reshape(-1, 2).T.copy())
        decoder = AudioDecoder(av_clip)
        assert decoder.metadata.sample_rate == 48_000 and decoder.stream_index == 1
        assert torch.equal(decoder.get_all_samples().data, wanted)
        part = decoder.get_samples_played_in_range(0.5, 1.0)
        assert torch.equal(part.data, wanted[:, 24_000:48_000]) and (part.pts_seconds, part.duration_seconds) == (0.5, 0.5)
        assert AudioDecoder(av_clip, sample_rate=16_000, num_channels=1).get_samples_played_in_range(0.5, 1.0).data.shape == (1, 8_000)
        with pytest.raises(RuntimeError, match="No audio frames were decoded"):
            decoder.get_samples_played_in_range(99)

    def test_samplers_and_encoder(self, tmp_path, clip, pictures):
        from framerail.compat.torchcodec import samplers
        from framerail.compat.torchcodec.decoders import VideoDecoder
        from framerail.compat.torchcodec.encoders import VideoEncoder

        decoder = VideoDecoder(clip)
        clips = samplers.clips_at_regular_indices(decoder, num_clips=3, num_frames_per_clip=4, num_indices_between_frames=2)
        assert clips.data.shape == (3, 4, 3, HEIGHT, WIDTH)
        assert numbers_of(clips.data[2].numpy()) == [53, 55, 57, 59]
        torch.manual_seed(3)
        clips = samplers.clips_at_random_timestamps(decoder, num_clips=2, num_frames_per_clip=3, seconds_between_frames=0.1)
        assert clips.pts_seconds.shape == (2, 3)
        encoder = VideoEncoder(pictures[:10].permute(0, 3, 1, 2), frame_rate=25)
        encoder.to_file(tmp_path / "a.mp4", crf=10)
        encoded = encoder.to_tensor("mp4", crf=10)
        assert numbers_of(VideoDecoder(encoded)[:].numpy()) == numbers_of(VideoDecoder(tmp_path / "a.mp4")[:].numpy()) == list(range(10))

    def test_an_encoder_of_frames_and_samples(self, tmp_path, clip, pictures):
        from framerail.compat.torchcodec.decoders import AudioDecoder, VideoDecoder, WavDecoder
        from framerail.compat.torchcodec.encoders import AudioEncoder, Encoder, VideoEncoder

        frames, samples = pictures[:10].permute(0, 3, 1, 2), torch.linspace(-0.5, 0.5, 19_200).reshape(1, -1)
        encoder = Encoder()
        video = encoder.add_video(height=HEIGHT, width=WIDTH, frame_rate=25, crf=10)
        audio = encoder.add_audio(sample_rate=48_000, num_channels=1)
        with pytest.raises(RuntimeError, match=r"Call open\(\) before addFrames"):
            video.add_frames(frames)
        with encoder.open_file(tmp_path / "both.mkv"):
            video.add_frames(frames[:4])
            audio.add_samples(samples[:, :9_600])
            video.add_frames(frames[4:])
            audio.add_samples(samples[:, 9_600:])
            for wrong, words in ((frames.float(), "uint8 dtype"), (frames[:, :, :40], "same dimensions"), (frames[0], "shape")):
                with pytest.raises(RuntimeError, match=words):
                    video.add_frames(wrong)
            for wrong, words in ((samples.double(), "float32 dtype"), (samples[0], "2 dimensions"), (samples.repeat(2, 1), "Expected 1 channels")):
                with pytest.raises(RuntimeError, match=words):
                    audio.add_samples(wrong)
        assert numbers_of(VideoDecoder(tmp_path / "both.mkv")[:].numpy()) == list(range(10))
        assert abs(AudioDecoder(tmp_path / "both.mkv").get_all_samples().data.shape[1] - 19_200) <= 2_048
        with pytest.raises(RuntimeError, match=r"Cannot add frames after close\(\)"):
            video.add_frames(frames)
        # The encoders of one stream are this one.
        buffer = io.BytesIO()
        encoder = Encoder()
        audio = encoder.add_audio(sample_rate=48_000, num_channels=1)
        with encoder.open_file_like(buffer, format="wav"):
            audio.add_samples(samples)
        assert buffer.getvalue() == bytes(AudioEncoder(samples, sample_rate=48_000).to_tensor("wav"))
        assert WavDecoder(buffer.getvalue()).get_all_samples().data.shape == (1, 19_200)
        with pytest.raises(RuntimeError, match="Missing RIFF header"):
            WavDecoder(tmp_path / "both.mkv")
        encoder = Encoder()
        encoder.add_video(height=HEIGHT, width=WIDTH, frame_rate=25, preset="nonsense")
        with pytest.raises(RuntimeError, match="nonsense"):
            encoder.open_file(tmp_path / "a.mp4")
        with pytest.raises(RuntimeError, match="make sure it's a valid path"):
            VideoEncoder(frames, frame_rate=25).to_file(tmp_path / "none" / "a.mp4")
        assert [path.name for path in tmp_path.iterdir()] == ["both.mkv"]

    def test_damaged_audio_is_silent_with_a_warning(self, tmp_path):
        from framerail.compat.torchcodec.decoders import AudioDecoder

        whole = tmp_path / "a.mp3"
        subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=6:r=16000", str(whole)], check=True)
        content = bytearray(whole.read_bytes())
        content[2_000::7] = bytes(byte ^ 255 for byte in content[2_000::7])
        with pytest.warns(UserWarning, match="spans without samples are silent"):
            AudioDecoder(bytes(content)).get_all_samples()

    def test_errors_are_of_the_kinds_that_programs_catch(self, tmp_path, clip, pictures):
        from framerail.compat.torchcodec.decoders import AudioDecoder, VideoDecoder
        from framerail.compat.torchcodec.encoders import VideoEncoder

        for decoder in (VideoDecoder, AudioDecoder):
            with pytest.raises(RuntimeError, match="Could not open input file: none.mp4") as caught:
                decoder("none.mp4")
            assert isinstance(caught.value, FileNotFoundError)
        with pytest.raises(RuntimeError, match="banana"):
            VideoDecoder(clip, device="banana")
        encoder = VideoEncoder(pictures[:2].permute(0, 3, 1, 2), frame_rate=25)
        for options, words in (({"codec": "nonsense"}, "Video codec nonsense not found"), ({"pixel_format": "nonsense"}, "nonsense")):
            with pytest.raises(RuntimeError, match=words):
                encoder.to_file(tmp_path / "a.mp4", **options)
        assert not list(tmp_path.iterdir())

    def test_the_same_as_the_real_one(self, av_clip):
        real = pytest.importorskip("torchcodec")
        from framerail.compat import torchcodec

        ours, theirs = torchcodec.decoders.VideoDecoder(av_clip), real.decoders.VideoDecoder(av_clip)
        for name in ("num_frames", "average_fps", "duration_seconds", "begin_stream_seconds", "end_stream_seconds", "width", "codec",
                     "stream_index", "pixel_format", "num_frames_from_header", "average_fps_from_header"):  # fmt: skip
            assert getattr(ours.metadata, name) == pytest.approx(getattr(theirs.metadata, name)), name
        mine, other = ours.get_frames_at([3, 40, 3]), theirs.get_frames_at([3, 40, 3])
        assert torch.equal(mine.data, other.data) and mine.data.stride() == other.data.stride()
        assert torch.equal(mine.pts_seconds, other.pts_seconds)
        lines = [[line for line in repr(decoder.metadata).splitlines() if "pixel_aspect_ratio" not in line] for decoder in (ours, theirs)]
        assert repr(mine) == repr(other) and lines[0] == lines[1]
        torch.manual_seed(5)
        mine = torchcodec.samplers.clips_at_random_indices(ours, num_clips=3, num_frames_per_clip=2)
        torch.manual_seed(5)
        other = real.samplers.clips_at_random_indices(theirs, num_clips=3, num_frames_per_clip=2)
        assert torch.equal(mine.data, other.data)

    def test_install_serves_imports(self):
        program = """
import framerail.compat.torchcodec as compat
compat.install()
import importlib.metadata, importlib.util, torchcodec
from torchcodec.decoders import VideoDecoder
assert VideoDecoder is compat.decoders.VideoDecoder and torchcodec.__version__ == importlib.metadata.version("torchcodec")
assert importlib.util.find_spec("torchcodec") is not None
compat.uninstall()
import sys
assert "torchcodec" not in sys.modules
"""
        subprocess.run([sys.executable, "-c", program], check=True)


class TestDecord:
    def test_frames_and_times(self, clip):
        from framerail.compat import decord

        reader = decord.VideoReader(str(clip), ctx=decord.cpu(0))
        assert len(reader) == 60 and reader.get_avg_fps() == pytest.approx(25)
        frame = reader[7]
        assert isinstance(frame, decord.nd.NDArray) and numbers_of([frame.asnumpy()], "THWC") == [7]
        assert numbers_of(reader.get_batch([3, -1, 3]).asnumpy(), "THWC") == [3, 59, 3]
        assert reader[10:20:5].shape == (2, HEIGHT, WIDTH, 3)
        assert reader.get_key_indices() == [0, 12, 24, 36, 48]
        np.testing.assert_allclose(reader.get_frame_timestamp(range(2)), [[0, 0.04], [0.04, 0.08]], atol=1e-6)
        reader.seek(30)
        assert numbers_of([reader.next()], "THWC") == [24]
        reader.seek_accurate(30)
        reader.skip_frames(2)
        assert numbers_of([reader.next()], "THWC") == [32]
        with pytest.raises(IndexError, match="Out of bound"):
            reader.get_batch([60])
        assert decord.VideoReader(open(clip, "rb"), width=64, height=48)[0].shape == (48, 64, 3)
        np.testing.assert_allclose(reader.get_frame_timestamp(1), [0.04, 0.08], atol=1e-6)
        decord.logging.set_level(decord.logging.QUIET)

    def test_batches_of_several_files(self, clip):
        """Frames and their order are those of decord 0.6."""
        from framerail.compat import decord

        def batches(**options):
            loader = decord.VideoLoader([str(clip)] * 2, ctx=[decord.cpu(0)], **options)
            found = [(places.asnumpy().tolist(), numbers_of(data.asnumpy(), "THWC")) for data, places in loader]
            assert len(found) == len(loader) and all([number for _, number in places] == numbers for places, numbers in found)
            return [([file for file, _ in places], numbers) for places, numbers in found]

        shape = (3, HEIGHT, WIDTH, 3)
        assert batches(shape=shape, interval=4, skip=9, shuffle=0) == [([at] * 3, [f, f + 5, f + 10]) for at in (0, 1) for f in (0, 20, 40)]
        assert len(batches(shape=shape, interval=2, skip=0, shuffle=-1)) == 16
        assert sorted(batches(shape=shape, interval=0, skip=27, shuffle=2)) == [([at] * 3, [f, f + 1, f + 2]) for at in (0, 1) for f in (0, 30)]

    def test_bridges(self, clip):
        from framerail.compat import decord

        reader = decord.VideoReader(str(clip))
        with decord.bridge.use_torch():
            assert isinstance(reader[0], torch.Tensor)
            native = decord.bridge.bridge_in(reader[0])
        assert isinstance(native, decord.nd.NDArray) and isinstance(reader[0], decord.nd.NDArray)
        decord.bridge.set_bridge("torch")
        try:
            assert isinstance(reader.get_batch([1]), torch.Tensor)
        finally:
            decord.bridge.reset_bridge()
        with pytest.raises(AssertionError, match="valid bridges: native, torch"):
            decord.bridge.set_bridge("jax")

    def test_audio(self, av_clip, clip):
        from framerail.compat import decord

        audio = decord.AudioReader(str(av_clip), sample_rate=16_000)
        assert audio.shape == audio.shape() and audio.shape[0] == 1 and audio.shape()[1] == pytest.approx(2.4 * 16_000, abs=400)
        both = decord.AVReader(str(av_clip), sample_rate=48_000)
        sound, frame = both[10]
        assert sound.shape == (1, 1920) and numbers_of([frame], "THWC") == [10]
        with pytest.raises(decord.DECORDError):
            decord.AudioReader(str(clip))
        with pytest.raises(decord.DECORDError):
            decord.VideoReader("none.mp4")


def test_video_capture(clip):
    from framerail.compat import cv2

    capture = cv2.VideoCapture(str(clip))
    assert capture.isOpened() and capture.get(cv2.CAP_PROP_FRAME_COUNT) == 60 and capture.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
    numbers = []
    while True:
        found, frame = capture.read()
        if not found:
            break
        numbers.append(frame[:, :, ::-1])
    assert numbers_of(numbers, "THWC") == list(range(60))
    assert capture.set(cv2.CAP_PROP_POS_FRAMES, 30) and numbers_of([capture.read()[1]], "THWC") == [30]
    assert capture.get(cv2.CAP_PROP_POS_FRAMES) == 31 and capture.get(cv2.CAP_PROP_POS_MSEC) == pytest.approx(1200)
    assert capture.set(cv2.CAP_PROP_POS_MSEC, 480) and numbers_of([capture.read()[1]], "THWC") == [12]
    capture.release()
    assert not capture.isOpened() and capture.read() == (False, None)
    assert not cv2.VideoCapture("none.mp4").isOpened()
    capture = cv2.VideoCapture(str(clip), cv2.CAP_FFMPEG, [cv2.CAP_PROP_ORIENTATION_AUTO, 1])
    assert capture.isOpened() and capture.get(cv2.CAP_PROP_SAR_NUM) == capture.get(cv2.CAP_PROP_SAR_DEN) == 1
    assert capture.get(cv2.CAP_PROP_BITRATE) > 0 and not capture.getExceptionMode()
    capture.setExceptionMode(True)
    with pytest.raises(ValueError, match="none.mp4"):
        capture.open("none.mp4")


def test_sample_frames(clip):
    batch = fr.sample_frames(clip, num_frames=4)
    assert batch.numbers.tolist() == [0, 20, 39, 59]
    assert fr.sample_frames(clip, fps=5).data.shape[0] == 12
    assert fr.sample_frames(clip, fps=5, frame_factor=8).data.shape[0] == 8
    assert fr.sample_frames(clip, fps=100, max_frames=10).data.shape[0] == 10
    assert fr.sample_frames(clip, num_frames=4, snap="keyframe").numbers.tolist() == [0, 24, 36, 48]
    sized = fr.sample_frames(clip, num_frames=2, max_pixels=28 * 28 * 6, multiple_of=28, layout="THWC")
    assert sized.data.shape == (2, 56, 56, 3)
    with fr.VideoReader(clip) as reader:
        part = fr.sample_frames(reader, num_frames=2, start_seconds=1.0, end_seconds=1.2, dtype="float32")
        assert part.numbers.tolist() == [25, 29] and part.data.dtype == torch.float32
        assert reader.read([0]).data.dtype == torch.uint8
        with pytest.raises(ValueError, match="no frame"):
            fr.sample_frames(reader, num_frames=2, start_seconds=9.0)
    with pytest.raises(ValueError, match="exclude"):
        fr.sample_frames(clip, num_frames=2, fps=1)
    assert fr.fitting_size(1080, 1920, max_pixels=768 * 28 * 28, multiple_of=28) == (560, 1008)


def test_lerobot_decoder(clip, pictures):
    from framerail.compat import lerobot

    frames = lerobot.decode_video_frames(clip, [0.0, 1.001, 2.36], 0.01)
    assert frames.dtype == torch.float32 and torch.equal((frames * 255).round().to(torch.uint8), pictures[[0, 25, 59]].permute(0, 3, 1, 2))
    assert lerobot.decode_video_frames(clip, [0.04], 0.01, return_uint8=True).dtype == torch.uint8
    with pytest.raises(lerobot.FrameTimestampError, match="no frame within"):
        lerobot.decode_video_frames(clip, [0.02], 0.01)


def test_torchvision_functions(tmp_path, av_clip, pictures):
    from framerail.compat import torchvision_io as io

    with pytest.raises(RuntimeError, match="File not found: none.mp4"):
        io.read_video("none.mp4")

    frames, sound, info = io.read_video(av_clip, 0.4, 0.8, pts_unit="sec")
    assert torch.equal(frames, pictures[10:21]) and sound.shape == (2, 19_200)
    assert info == {"video_fps": pytest.approx(25), "audio_fps": 48_000}
    times, rate = io.read_video_timestamps(av_clip, pts_unit="sec")
    assert len(times) == 60 and times[3] == pytest.approx(0.12) and rate == pytest.approx(25)
    io.write_video(tmp_path / "a.mp4", pictures[:10], 25, options={"crf": "10"}, audio_array=sound, audio_fps=48_000)
    again, heard, _ = io.read_video(tmp_path / "a.mp4", output_format="TCHW")
    assert numbers_of(again.numpy()) == list(range(10)) and heard.shape[0] == 2
