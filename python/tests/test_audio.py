"""AudioReader and VideoReader.audio: samples beside FFmpeg's, by time."""

import pickle
import subprocess

import framerail as fr
import numpy as np
import pytest

RATE = 48_000
#: A sweep with noise, so that every place is told from every other.
SOUND = "aevalsrc='0.3*sin(2*PI*t*(200+100*t))+0.05*random(0)|0.3*cos(2*PI*t*(300+80*t))':s={rate}:d={secs}"

FORMATS = {
    "aac.mp4": ["-c:a", "aac", "-b:a", "96k"],
    "aac.mkv": ["-c:a", "aac"],
    "aac.ts": ["-c:a", "aac"],
    "mp3.mp3": ["-c:a", "libmp3lame"],
    "mp3.mkv": ["-c:a", "libmp3lame"],
    "opus.ogg": ["-c:a", "libopus"],
    "opus.mkv": ["-c:a", "libopus"],
    "flac.flac": ["-c:a", "flac"],
    "flac.mkv": ["-c:a", "flac"],
    "pcm.wav": ["-c:a", "pcm_s16le"],
    "pcm24.mov": ["-c:a", "pcm_s24le"],
    "vorbis.ogg": ["-c:a", "libvorbis"],
    "vorbis.mkv": ["-c:a", "libvorbis"],
    "mp2.ts": ["-c:a", "mp2"],
    "alac.m4a": ["-c:a", "alac"],
}


def ffmpeg(*arguments):
    return subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)], capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """One file for each format: 3 s of stereo."""
    folder = tmp_path_factory.mktemp("sounds")
    source = folder / "source.wav"
    ffmpeg("-f", "lavfi", "-i", SOUND.format(rate=RATE, secs=3), source)
    for name, options in FORMATS.items():
        ffmpeg("-i", source, *options, folder / name)
    return folder


def decoded(path, *options, channels=2):
    """Samples as FFmpeg's command decodes them."""
    raw = ffmpeg("-i", path, "-map", "0:a:0", *options, "-f", "f32le", "-c:a", "pcm_f32le", "-")
    return np.frombuffer(raw, np.float32).reshape(-1, channels).T


@pytest.mark.parametrize("name", FORMATS)
def test_samples_equal_ffmpegs_bit_for_bit(sounds, name):
    wanted = decoded(sounds / name)
    with fr.AudioReader(sounds / name, output="numpy") as audio:
        whole = audio.read()
        assert whole.data.dtype == np.float32 and whole.sample_rate == RATE and whole.gaps == []
        np.testing.assert_array_equal(whole.data, wanted)
        # Anywhere, forwards and back: the same samples.
        origin = audio.metadata.start_seconds
        for start, stop in [(1.0, 1.5), (1.5, 1.75), (0.0, 0.1), (2.5, 9.0), (0.3, 0.3)]:
            first, end = round(start * RATE), round(stop * RATE)
            part = audio.read(origin + start, origin + stop)
            np.testing.assert_array_equal(part.data, wanted[:, first:end], err_msg=f"{start} to {stop}")
            assert part.seconds == pytest.approx(origin + start)


@pytest.mark.parametrize("rate,channels", [(16_000, 1), (44_100, 2), (48_000, 1), (96_000, 2)])
def test_resampled_audio_equals_ffmpegs_wherever_it_begins(sounds, rate, channels):
    name = sounds / "flac.flac"
    wanted = decoded(name, "-ar", rate, "-ac", channels, channels=channels)
    with fr.AudioReader(name, sample_rate=rate, channels=channels, output="numpy") as audio:
        np.testing.assert_array_equal(audio.read().data, wanted)
        for start, stop in [(1.0, 1.4), (0.1234, 0.2), (2.0, 2.0001)]:
            part = audio.read(start, stop)
            assert part.sample_rate == rate
            np.testing.assert_array_equal(part.data, wanted[:, round(start * rate) : round(stop * rate)])


def test_spans_that_follow_each_other_have_each_sample_once(sounds):
    with fr.AudioReader(sounds / "aac.mp4", sample_rate=22_050, output="numpy") as audio:
        whole = audio.read(0.0, 2.0).data
        edges = [0.0, 1 / 3, 0.5, 1.2345, 2.0]
        parts = [audio.read(start, stop).data for start, stop in zip(edges, edges[1:])]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_near_seeks_give_the_same_for_codecs_without_a_memory(sounds):
    for name in ("pcm.wav", "flac.flac", "vorbis.ogg"):
        with fr.AudioReader(sounds / name, output="numpy") as exact, fr.AudioReader(sounds / name, seek="near", output="numpy") as near:
            np.testing.assert_allclose(near.read(2.0, 2.5).data, exact.read(2.0, 2.5).data, atol=1e-6)


@pytest.fixture(scope="module")
def claps(tmp_path_factory):
    """25 frames a second, of which every 25th is white, with a click at the first sample of it, in several containers."""
    folder = tmp_path_factory.mktemp("claps")
    flash = "color=black:s=64x64:r=25:d=4,geq=lum='if(eq(mod(N,25),0),235,16)':cb=128:cr=128"
    click = f"aevalsrc='if(lt(mod(n,{RATE}),1),0.9,0)':s={RATE}:d=4"
    both = ["-f", "lavfi", "-i", flash, "-f", "lavfi", "-i", click, "-c:v", "libx264", "-g", "10", "-bf", "2", "-pix_fmt", "yuv420p"]
    for name, options in {"a.mov": ["-c:a", "pcm_s16le"], "a.mkv": ["-c:a", "flac"], "a.mp4": ["-c:a", "alac"]}.items():
        ffmpeg(*both, *options, folder / name)
    return folder


@pytest.mark.parametrize("name", ["a.mov", "a.mkv", "a.mp4"])
def test_a_clap_stays_with_its_flash(claps, name):
    with fr.VideoReader(claps / name, output="numpy") as video:
        for second in (1, 3, 2):
            batch = video.read(range(25 * second - 2, 25 * second + 3))
            flash = int(np.argmax(batch.data.mean(axis=(1, 2, 3))))
            assert batch.numbers[flash] == 25 * second
            start, stop = float(batch.seconds[0]), float(batch.seconds[-1] + batch.durations[-1])
            sound = video.audio(start, stop)
            assert sound.data.shape == (1, round((stop - start) * RATE))
            clap = start + int(np.argmax(np.abs(sound.data[0]))) / RATE
            assert abs(clap - batch.seconds[flash]) <= 1.5 / RATE


@pytest.mark.parametrize("seek", ["exact", "near"])
def test_a_clap_stays_with_its_flash_through_clips_of_a_data_set(claps, seek):
    pytest.importorskip("torch")
    sources = [str(claps / name) for name in ("a.mov", "a.mkv", "a.mp4")]
    # Clips of 30 frames have one flash or two, a second apart like their claps.
    audio = fr.torch.ClipAudio(sample_rate=RATE, seconds=30 / 25, seek=seek)
    clips = fr.torch.ClipDataset(sources, frames_per_clip=30, num_clips=4, audio=audio)
    places = set()
    for item in [clips[number] for number in range(len(clips))]:
        flash = int(item["frames"].float().mean(dim=(1, 2, 3)).argmax())
        clap = int(item["audio"][0].abs().argmax())
        apart = clap / RATE - float(item["seconds"][flash] - item["seconds"][0])
        assert abs(apart - round(apart)) <= 1 / RATE, item["source"]
        places.add(flash)
    assert len(places) > 5


@pytest.mark.parametrize(("name", "codec"), [("o.mov", "pcm_f32le"), ("o.mkv", None), ("o.mp4", None)])
@pytest.mark.parametrize("way", ["samples", "track"])
def test_a_clap_stays_with_its_flash_through_the_writer(claps, tmp_path, name, codec, way):
    frames = np.zeros((100, 64, 64, 3), np.uint8)
    frames[::25] = 255
    samples = np.zeros((1, 4 * RATE), np.float32)
    samples[0, ::RATE] = 0.9
    given = {"audio_rate": RATE, "audio_channels": 1, "audio_codec": codec} if way == "samples" else {"audio": claps / "a.mov"}
    with fr.VideoWriter(tmp_path / name, fps=25, **given) as writer:
        for at in range(0, 100, 20):
            writer.write(frames[at : at + 20])
            if way == "samples":
                writer.write_audio(samples[:, at * RATE // 25 : (at + 20) * RATE // 25])
    with fr.VideoReader(tmp_path / name, output="numpy") as video:
        assert len(video) == 100
        for second in (1, 2, 3):
            flash = 25 * second - 2 + int(np.argmax(video.read(range(25 * second - 2, 25 * second + 3)).data.mean(axis=(1, 2, 3))))
            sound = video.audio(second - 0.1, second + 0.2).data[0]
            clap = second - 0.1 + int(np.argmax(np.abs(sound))) / RATE
            assert flash == 25 * second and abs(clap - float(video.read([flash]).seconds[0])) <= 1.5 / RATE


def test_audio_of_a_clip_is_filled_up_and_says_so(claps):
    with fr.VideoReader(claps / "a.mov", output="numpy") as video:
        sound = video.audio(3.5, 5.0, sample_rate=16_000)
        assert sound.data.shape == (1, 24_000)
        assert sound.gaps == [(pytest.approx(4.0), pytest.approx(5.0))]
        assert not sound.data[:, 8_100:].any()
        assert video.audio(-1.0, 0.5).data.shape == (1, RATE * 3 // 2)
        assert video.audio().duration == pytest.approx(4.0)


def test_gaps_become_silence_and_are_reported(tmp_path, sounds):
    holed = tmp_path / "holed.mkv"
    ffmpeg("-i", sounds / "pcm.wav", "-af", "aselect='not(between(t,1,1.9999))'", "-c:a", "pcm_s16le", holed)
    wanted = decoded(sounds / "pcm.wav")
    with fr.AudioReader(holed, output="numpy") as audio:
        whole = audio.read()
        ((start, stop),) = whole.gaps
        assert start == pytest.approx(1.0, abs=0.03) and stop == pytest.approx(2.0, abs=0.03)
        assert whole.data.shape[1] == pytest.approx(3 * RATE, abs=100)
        first, end = round(start * RATE) + 1, round(stop * RATE) - 1
        assert not whole.data[:, first:end].any()
        tail = audio.read(2.2, 2.8).data
        assert min(np.abs(tail - wanted[:, at : at + tail.shape[1]]).max() for at in range(105_500, 105_700)) < 1e-4


def test_an_edit_list_moves_audio(tmp_path, sounds):
    late = tmp_path / "late.mp4"
    ffmpeg(
        "-itsoffset", "0.5", "-i", sounds / "alac.m4a", "-f", "lavfi", "-i", "color=s=64x64:d=3", "-c:a", "copy", "-c:v", "libx264", late
    )
    wanted = decoded(sounds / "alac.m4a")
    with fr.AudioReader(late, output="numpy") as audio:
        assert audio.metadata.start_seconds == pytest.approx(0.5, abs=0.002)
        np.testing.assert_array_equal(audio.read(stop=1.0).data[:, :20_000], wanted[:, :20_000])
        padded = audio.read(0.0, 1.0, pad=True)
        assert padded.data.shape == (2, RATE) and not padded.data[:, : RATE // 2 - 100].any()


def test_sources_of_other_kinds(sounds):
    content = (sounds / "aac.mp4").read_bytes()
    wanted = decoded(sounds / "aac.mp4")[:, :1000]
    with open(sounds / "aac.mp4", "rb") as file:
        for source in (content, memoryview(content), file):
            with fr.AudioReader(source, output="numpy") as audio:
                np.testing.assert_array_equal(audio.read(0.0, 1000 / RATE).data, wanted)


def test_bad_input_says_what_is_wrong(tmp_path, sounds, clip):
    with pytest.raises(FileNotFoundError):
        fr.AudioReader(tmp_path / "none.wav")
    with pytest.raises(fr.DecodeError, match="no audio stream"):
        fr.AudioReader(clip)
    (tmp_path / "text.wav").write_text("no sound\n" * 100)
    with pytest.raises(fr.DecodeError):
        fr.AudioReader(tmp_path / "text.wav")
    with pytest.raises(ValueError, match="stream"):
        fr.AudioReader(sounds / "pcm.wav", stream=1)
    with pytest.raises(ValueError, match="'seek'"):
        fr.AudioReader(sounds / "pcm.wav", seek="fast")
    audio = fr.AudioReader(sounds / "pcm.wav")
    with pytest.raises(ValueError, match="before start"):
        audio.read(2.0, 1.0)
    with pytest.raises(ValueError, match="sample_rate"):
        fr.AudioReader(sounds / "pcm.wav", sample_rate=10**7).read()
    with pytest.raises(ValueError, match="stop"):
        audio.read(0.0, 1e9, pad=True)
    audio.close()
    with pytest.raises(ValueError, match="closed"):
        audio.read()


def test_damaged_audio_ends_without_a_hang(tmp_path, sounds, no_hang):
    content = bytearray((sounds / "aac.mp4").read_bytes())
    for at in range(len(content) // 4, len(content) // 2, 97):
        content[at] ^= 0xFF
    with fr.AudioReader(bytes(content), output="numpy") as audio:
        audio.read()
        assert audio.stats["packets_damaged"] >= 0
    (tmp_path / "cut.mp3").write_bytes((sounds / "mp3.mp3").read_bytes()[:9000])
    with fr.AudioReader(tmp_path / "cut.mp3", output="numpy") as audio:
        assert 0 < audio.read().data.shape[1] < 3 * RATE


def test_audio_readers_are_pickled(sounds):
    reader = fr.AudioReader(sounds / "flac.flac", sample_rate=16000, output="numpy")
    copy = pickle.loads(pickle.dumps(reader))
    assert (copy.read(1.0, 1.5).data == reader.read(1.0, 1.5).data).all()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(reader)
