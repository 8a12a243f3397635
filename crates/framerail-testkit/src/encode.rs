//! Encodes a [`ClipSpec`]: draws frames and pipes them as raw video to the ffmpeg command line.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use framerail_core::{ColorMatrix, ColorRange};

use crate::{
    background,
    clip::{AudioCodec, ClipSpec, Codec, Container, Content, SubtitleCodec},
    faces, tool,
};

/// FFmpeg's name of the video encoder.
pub(crate) fn video_encoder(spec: &ClipSpec) -> &'static str {
    match spec.codec {
        Codec::H264 if matches!(spec.pixel_format.as_str(), "rgb24" | "bgr24" | "bgr0") => "libx264rgb",
        Codec::H264 => "libx264",
        Codec::Hevc => "libx265",
        Codec::Vp8 => "libvpx",
        Codec::Vp9 => "libvpx-vp9",
        Codec::Av1 => "libsvtav1",
        Codec::Mpeg2 => "mpeg2video",
        Codec::Mpeg4 => "mpeg4",
        Codec::Mjpeg => "mjpeg",
        Codec::ProRes => "prores_ks",
        Codec::Ffv1 => "ffv1",
        Codec::Gif => "gif",
        Codec::Png => "png",
        Codec::HuffYuv => "ffvhuff",
        Codec::RawVideo => "rawvideo",
    }
}

/// File name extension; `None` for a folder.
pub(crate) fn extension(spec: &ClipSpec) -> Option<&'static str> {
    Some(match spec.container {
        Container::Mp4 => "mp4",
        Container::Mov => "mov",
        Container::Mkv => "mkv",
        Container::Webm => "webm",
        Container::Avi => "avi",
        Container::Ts => "ts",
        Container::Gif => "gif",
        Container::Elementary => elementary(spec.codec).1,
        Container::Images => return None,
    })
}

/// FFmpeg's name of the raw format, and its usual extension.
fn elementary(codec: Codec) -> (&'static str, &'static str) {
    match codec {
        Codec::H264 => ("h264", "h264"),
        Codec::Hevc => ("hevc", "hevc"),
        Codec::Mpeg2 => ("mpeg2video", "m2v"),
        Codec::Mpeg4 => ("m4v", "m4v"),
        Codec::Mjpeg => ("mjpeg", "mjpeg"),
        Codec::Av1 => ("obu", "obu"),
        Codec::Vp8 | Codec::Vp9 => ("ivf", "ivf"),
        other => panic!("{other:?} has no elementary stream here"),
    }
}

/// File name pattern of an image sequence, in FFmpeg's syntax.
pub(crate) fn image_pattern(spec: &ClipSpec) -> &'static str {
    if spec.codec == Codec::Mjpeg { "%05d.jpg" } else { "%05d.png" }
}

/// Generates the clip in an empty folder and returns its path.
pub(crate) fn encode(spec: &ClipSpec, work: &Path) -> PathBuf {
    let (at, second) = match (spec.size_change, &spec.pixel_format_change) {
        (Some((at, width, height)), _) => (at, ClipSpec { width, height, ..spec.clone() }),
        (None, Some((at, name))) => (*at, spec.clone().pixel_format(name)),
        (None, None) => return encode_whole(spec, work),
    };
    assert!(matches!(spec.container, Container::Ts | Container::Elementary), "only TS and elementary streams change in their middle");
    let (first, second) = (encode_part(spec, work, "first", 0..at), encode_part(&second, work, "second", at..spec.frames));
    let mut joined = fs::read(first).expect("read the first part");
    joined.extend(fs::read(second).expect("read the second part"));
    let path = work.join("joined");
    fs::write(&path, joined).expect("write the joined parts");
    if spec.container == Container::Ts {
        // Copied once more, so that packet counters continue across the join.
        let path_whole = work.join("joined.ts");
        let mut command = tool::ffmpeg();
        command.args(["-copyts", "-i"]).arg(&path).args(["-map", "0", "-c", "copy", "-muxdelay", "0", "-muxpreload", "0"]).arg(&path_whole);
        tool::run(command);
        return path_whole;
    }
    path
}

fn encode_whole(spec: &ClipSpec, work: &Path) -> PathBuf {
    let mut path = encode_part(spec, work, "encoded", 0..spec.frames);
    if spec.repeats > 1 {
        let times = (spec.repeats - 1).to_string();
        path = remux(spec, work, &path, "repeated", &["-stream_loop", &times], &[]);
    }
    // FFmpeg 5.1 stores a rotation only when copying streams.
    if spec.rotation.degrees() != 0 {
        assert!(matches!(spec.container, Container::Mp4 | Container::Mov), "only MP4 and MOV carry a rotation");
        // FFmpeg's angle is counter-clockwise.
        let rotate = format!("rotate={}", 360 - spec.rotation.degrees());
        path = remux(spec, work, &path, "turned", &[], &["-metadata:s:v:0", &rotate]);
    }
    if spec.edit_list_skip > 0 {
        assert!(matches!(spec.container, Container::Mp4 | Container::Mov), "only MP4 and MOV carry an edit list");
        // Half a frame early, so that rounding cannot lose the frame.
        let start = (f64::from(spec.edit_list_skip) - 0.5) / spec.frame_rate.as_f64();
        path = remux(spec, work, &path, "edited", &["-ss", &start.to_string()], &[]);
    }
    path
}

fn remux(spec: &ClipSpec, work: &Path, from: &Path, name: &str, input: &[&str], output: &[&str]) -> PathBuf {
    let path = work.join(format!("{name}.{}", extension(spec).unwrap_or_default()));
    let mut command = tool::ffmpeg();
    command.args(input).arg("-i").arg(from).args(["-map", "0", "-c", "copy"]).args(header_options(spec)).args(output).arg(&path);
    tool::run(command);
    path
}

fn header_options(spec: &ClipSpec) -> &'static [&'static str] {
    match (spec.container, spec.fast_start, spec.unseekable) {
        (Container::Mp4 | Container::Mov, _, true) => &["-movflags", "frag_keyframe+delay_moov"],
        (Container::Mp4 | Container::Mov, true, _) => &["-movflags", "faststart"],
        _ => &[],
    }
}

fn encode_part(spec: &ClipSpec, work: &Path, name: &str, frames: std::ops::Range<u32>) -> PathBuf {
    let mut command = tool::ffmpeg();
    let alpha = has_alpha(&spec.pixel_format);
    command.args(["-f", "rawvideo", "-pix_fmt", if alpha { "rgba" } else { "rgb24" }]);
    command.arg("-video_size").arg(format!("{}x{}", spec.width, spec.height));
    command.arg("-framerate").arg(spec.frame_rate.to_string()).args(["-i", "pipe:0"]);
    side_inputs(&mut command, spec, work);
    command.args(["-map", "0:v"]).arg("-vf").arg(filters(spec)).args(["-fps_mode", "passthrough"]);
    video_options(&mut command, spec);
    side_outputs(&mut command, spec);
    let path = output(&mut command, spec, work, name, frames.start);
    let written = feed_into(command, spec, frames, alpha);
    assert!(written, "no frame was written to {}", path.display());
    path
}

fn feed_into(command: Command, spec: &ClipSpec, frames: std::ops::Range<u32>, alpha: bool) -> bool {
    let face = match &spec.content {
        Content::Faces(_) => Some(faces::Face::load()),
        Content::Numbers => None,
    };
    let any = !frames.is_empty();
    tool::run_fed(command, |out: &mut dyn Write| {
        let mut image = Vec::new();
        for frame in frames {
            match (&spec.content, &face) {
                (Content::Faces(faces), Some(face)) => face.draw(&mut image, faces, spec.width, spec.height, frame),
                _ => background::draw(&mut image, spec.width, spec.height, u64::from(frame), alpha, spec.interlaced),
            }
            if out.write_all(&image).is_err() {
                return;
            }
        }
    });
    any
}

fn has_alpha(pixel_format: &str) -> bool {
    pixel_format.starts_with("yuva")
        || pixel_format.starts_with("gbrap")
        || matches!(pixel_format, "rgba" | "bgra" | "argb" | "abgr" | "ya8")
}

fn side_inputs(command: &mut Command, spec: &ClipSpec, work: &Path) {
    let duration_secs = spec.duration_secs();
    for track in 0..spec.audio.len() {
        let tone = format!("sine=frequency={}:sample_rate=48000:duration={duration_secs}", 440 * (track + 1));
        command.args(["-f", "lavfi", "-i", &tone]);
    }
    if spec.subtitles.is_some() {
        let path = work.join("lines.srt");
        let half = duration_secs / 2.0;
        let lines = format!(
            "1\n{} --> {}\nfirst line\n\n2\n{} --> {}\nsecond line\n\n",
            srt_time(0.0),
            srt_time(half),
            srt_time(half),
            srt_time(duration_secs)
        );
        fs::write(&path, lines).expect("write the subtitles");
        command.arg("-i").arg(path);
    }
}

fn srt_time(secs: f64) -> String {
    let millis = (secs * 1000.0).round() as u64;
    format!("{:02}:{:02}:{:02},{:03}", millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60, millis % 1000)
}

/// FFmpeg's name of the encoder of an audio track.
fn audio_encoder(codec: AudioCodec) -> &'static str {
    match codec {
        AudioCodec::Aac => "aac",
        AudioCodec::Mp3 => "libmp3lame",
        AudioCodec::Pcm => "pcm_s16le",
        AudioCodec::Opus => "libopus",
    }
}

/// All encoders that a clip needs, including audio.
pub(crate) fn encoders(spec: &ClipSpec) -> impl Iterator<Item = &'static str> {
    std::iter::once(video_encoder(spec)).chain(spec.audio.iter().map(|codec| audio_encoder(*codec)))
}

fn side_outputs(command: &mut Command, spec: &ClipSpec) {
    for (track, codec) in spec.audio.iter().enumerate() {
        let encoder = audio_encoder(*codec);
        let language = if track == 0 { "language=eng" } else { "language=deu" };
        command.arg("-map").arg(format!("{}:a", track + 1)).arg(format!("-c:a:{track}")).arg(encoder);
        command.arg(format!("-metadata:s:a:{track}")).arg(language);
    }
    if !spec.audio.is_empty() {
        command.args(["-b:a", "64k"]);
    }
    if let Some(codec) = spec.subtitles {
        let encoder = match codec {
            SubtitleCodec::Srt => "srt",
            SubtitleCodec::MovText => "mov_text",
        };
        command.arg("-map").arg(format!("{}:s", spec.audio.len() + 1)).args(["-c:s", encoder]);
    }
}

fn matrix_name(matrix: ColorMatrix) -> &'static str {
    match matrix {
        ColorMatrix::Bt709 => "bt709",
        ColorMatrix::Bt2020 => "bt2020nc",
        ColorMatrix::Smpte240 => "smpte240m",
        ColorMatrix::Fcc => "fcc",
        _ => "smpte170m",
    }
}

fn filters(spec: &ClipSpec) -> String {
    let mut filters = Vec::new();
    if let Some((time_base, ticks)) = &spec.pts {
        let terms: Vec<_> = ticks.iter().enumerate().map(|(frame, tick)| format!("eq(N\\,{frame})*{tick}")).collect();
        filters.push(format!("settb={},setpts={}", time_base.ratio(), terms.join("+")));
    }
    let range = if spec.color.range == ColorRange::Full || spec.pixel_format.starts_with("yuvj") { "full" } else { "limited" };
    let matrix = if spec.color.matrix == ColorMatrix::Bt2020 { "bt2020" } else { matrix_name(spec.color.matrix) };
    let interlaced = i32::from(spec.interlaced);
    filters
        .push(format!("scale=out_color_matrix={matrix}:out_range={range}:interl={interlaced}:flags=bicubic+accurate_rnd+full_chroma_int"));
    filters.push(format!("format={}", spec.pixel_format));
    if let Some(ratio) = spec.sample_aspect_ratio {
        filters.push(format!("setsar={ratio}"));
    }
    if spec.interlaced {
        filters.push("setfield=tff".to_owned());
    }
    filters.join(",")
}

fn video_options(command: &mut Command, spec: &ClipSpec) {
    command.args(["-c:v", video_encoder(spec), "-pix_fmt", &spec.pixel_format, "-threads", "2"]);
    if let Some((time_base, _)) = &spec.pts {
        let ratio = time_base.ratio();
        command.arg("-enc_time_base").arg(format!("{}:{}", ratio.num, ratio.den));
    }
    color_options(command, spec);
    let (gop, b_frames) = (spec.gop.to_string(), spec.b_frames.to_string());
    let open = i32::from(spec.open_gop);
    match spec.codec {
        Codec::H264 => {
            command.args(["-preset", "veryfast", "-crf", "16", "-g", &gop, "-keyint_min", &gop, "-bf", &b_frames]);
            command.arg("-x264-params").arg(format!("scenecut=0:open-gop={open}:b-adapt=0{}", if spec.interlaced { ":tff=1" } else { "" }));
        }
        Codec::Hevc => {
            let params = format!(
                "log-level=error:pools=2:frame-threads=1:keyint={gop}:min-keyint={gop}:scenecut=0:open-gop={open}:bframes={b_frames}:b-adapt=0"
            );
            command.args(["-preset", "ultrafast", "-crf", "16", "-x265-params", &params]);
        }
        Codec::Vp8 | Codec::Vp9 => {
            command.args(["-deadline", "realtime", "-cpu-used", "8", "-crf", "16", "-b:v", "0", "-g", &gop]);
            if spec.codec == Codec::Vp8 {
                command.args(["-b:v", "2M"]);
            }
            if has_alpha(&spec.pixel_format) {
                command.args(["-auto-alt-ref", "0"]);
            }
        }
        Codec::Av1 => {
            command.args(["-preset", "11", "-crf", "20", "-g", &gop]);
        }
        Codec::Mpeg2 | Codec::Mpeg4 => {
            command.args(["-q:v", "3", "-g", &gop, "-bf", &b_frames]);
        }
        Codec::Mjpeg => {
            command.args(["-q:v", "3", "-strict", "unofficial"]);
        }
        Codec::Ffv1 => {
            command.args(["-level", "3", "-g", &gop]);
        }
        _ => {}
    }
    if spec.interlaced {
        command.args(["-flags:v", "+ildct+ilme", "-top", "1"]);
    }
    if matches!((spec.codec, spec.container), (Codec::Hevc, Container::Mp4 | Container::Mov)) {
        command.args(["-tag:v", "hvc1"]);
    }
    command.args(&spec.encoder_options);
}

fn color_options(command: &mut Command, spec: &ClipSpec) {
    let color = &spec.color;
    if color.matrix != ColorMatrix::Unspecified && color.matrix != ColorMatrix::Rgb {
        command.args(["-colorspace", matrix_name(color.matrix)]);
    }
    match color.range {
        ColorRange::Unspecified => {}
        ColorRange::Limited => drop(command.args(["-color_range", "tv"])),
        ColorRange::Full => drop(command.args(["-color_range", "pc"])),
    }
    if color.primaries.0 != 2 {
        command.arg("-color_primaries").arg(color.primaries.0.to_string());
    }
    if color.transfer.0 != 2 {
        command.arg("-color_trc").arg(color.transfer.0.to_string());
    }
}

/// Adds the options of the container and the output file; returns its path.
fn output(command: &mut Command, spec: &ClipSpec, work: &Path, name: &str, first_frame: u32) -> PathBuf {
    let title = spec.title.as_ref().map(|title| format!("title={title}"));
    if let Some(title) = &title {
        command.args(["-metadata", title]);
    }
    let offset_secs = spec.start_offset_secs + f64::from(first_frame) / spec.frame_rate.as_f64();
    if offset_secs != 0.0 && spec.container != Container::Elementary {
        command.arg("-output_ts_offset").arg(offset_secs.to_string());
    }
    let path = work.join(match extension(spec) {
        Some(extension) => format!("{name}.{extension}"),
        None => name.to_owned(),
    });
    let format = match spec.container {
        Container::Mp4 => "mp4",
        Container::Mov => "mov",
        Container::Mkv => "matroska",
        Container::Webm => "webm",
        Container::Avi => "avi",
        Container::Ts => "mpegts",
        Container::Gif => "gif",
        Container::Elementary => elementary(spec.codec).0,
        Container::Images => "image2",
    };
    command.args(["-f", format]);
    match (spec.container, &spec.pts) {
        (Container::Mp4 | Container::Mov, Some((time_base, _))) => {
            command.arg("-video_track_timescale").arg(time_base.ratio().den.to_string());
        }
        (Container::Ts, _) => drop(command.args(["-muxdelay", "0", "-muxpreload", "0"])),
        _ => {}
    }
    command.args(header_options(spec));
    if spec.unseekable {
        let file = fs::File::create(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        command.arg("pipe:1").stdout(file);
    } else if spec.container == Container::Images {
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        command.args(["-start_number", "0"]).arg(path.join(image_pattern(spec)));
    } else {
        command.arg(&path);
    }
    path
}
