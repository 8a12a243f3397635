//! Checks every clip of the corpus against its description with the ffmpeg command line.

use framerail_core::{FieldOrder, HostSurface, PixelFormat, Rotation};
use framerail_testkit::{
    AudioCodec, Clip, ClipSpec, Codec, Container, corpus, corpus::Corpus, ffprobe_frames, ffprobe_packets, ffprobe_stream, ffprobe_streams,
    make_corpus, probe::ffprobe_tag, read_frame_code, read_frame_number, reference_planes, stream_hashes,
};

fn clip(name: &str) -> Clip {
    let spec = corpus().into_iter().find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no clip {name}")).1;
    spec.make()
}

fn numbers(frames: impl Iterator<Item = HostSurface>) -> Vec<Option<u64>> {
    frames.map(|surface| read_frame_number(&surface)).collect()
}

#[test]
fn every_clip_shows_its_frame_numbers() {
    let Corpus { made, missing } = make_corpus();
    assert_eq!(missing, [], "Debian 12's ffmpeg has every encoder that the corpus needs");
    let mut wrong = Vec::new();
    for (name, clip) in &made {
        let found = numbers(reference_planes(&clip.ffmpeg_input(), PixelFormat::Gray8));
        let wanted: Vec<_> = clip.spec().frame_numbers().into_iter().map(Some).collect();
        if found != wanted {
            wrong.push(format!("{name}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "wrong numbers in {} of {} clips:\n{}", wrong.len(), made.len(), wrong.join("\n"));
}

#[test]
fn numbers_survive_every_pixel_format_and_half_size() {
    for (codec, container) in [(Codec::H264, Container::Mp4), (Codec::Mpeg4, Container::Avi)] {
        let clip = ClipSpec::new(codec, container).frames(3).size(128, 96).make();
        for format in PixelFormat::ALL {
            assert_eq!(numbers(reference_planes(clip.path(), *format)), [Some(0), Some(1), Some(2)], "{codec:?} as {format}");
        }
        let options = framerail_testkit::compare::ReferenceOptions {
            filter: Some("scale=64:48".to_owned()),
            size: Some((64, 48)),
            ..Default::default()
        };
        let small = framerail_testkit::compare::reference_planes_with(clip.path(), PixelFormat::Yuv420p, &options);
        assert_eq!(numbers(small), [Some(0), Some(1), Some(2)], "{codec:?} at half size");
    }
}

#[test]
fn variable_rate_keeps_the_pts_asked_for() {
    for name in ["h264-variable-rate", "h264-variable-rate-b-frames", "vp9-variable-rate", "gif-variable-rate", "h264-ntsc-rate"] {
        let clip = clip(name);
        let time_base = ffprobe_stream(clip.path(), "v:0").time_base;
        let pts: Vec<_> = ffprobe_frames(clip.path()).iter().map(|frame| frame.pts.expect("a PTS")).collect();
        let secs: Vec<_> = pts.iter().map(|ticks| time_base.seconds(ticks - pts[0])).collect();
        let wanted = clip.spec().relative_secs();
        assert_eq!(secs.len(), wanted.len(), "{name}");
        for (found, wanted) in secs.iter().zip(&wanted) {
            assert!((found - wanted).abs() < 0.0011, "{name}: {secs:?} instead of {wanted:?}");
        }
    }
}

#[test]
fn rotation_is_tagged_and_not_applied() {
    for (name, rotation) in
        [("h264-rotated-90", Rotation::Clockwise90), ("h264-rotated-180", Rotation::Half), ("h264-rotated-270", Rotation::Clockwise270)]
    {
        let clip = clip(name);
        assert_eq!(ffprobe_stream(clip.path(), "v:0").rotation_degrees, i64::from(rotation.degrees()), "{name}");
        let options = framerail_testkit::compare::ReferenceOptions { autorotate: true, ..Default::default() };
        let shown = framerail_testkit::compare::reference_planes_with(clip.path(), PixelFormat::Gray8, &options).next();
        let code = read_frame_code(&shown.expect("a frame")).expect("a code");
        assert_eq!(code.turned, rotation, "{name}: FFmpeg turns it clockwise by the same angle");
    }
}

#[test]
fn color_tags_are_those_asked_for() {
    for (name, matrix, range, primaries, transfer) in [
        ("h264-bt601", "smpte170m", "tv", "smpte170m", "smpte170m"),
        ("h264-bt709", "bt709", "tv", "bt709", "bt709"),
        ("h264-bt709-full", "bt709", "pc", "bt709", "bt709"),
        ("hevc-bt2020-pq", "bt2020nc", "tv", "bt2020", "smpte2084"),
        ("hevc-bt2020-hlg", "bt2020nc", "tv", "bt2020", "arib-std-b67"),
    ] {
        let stream = ffprobe_stream(clip(name).path(), "v:0");
        let found = [stream.color_matrix, stream.color_range, stream.color_primaries, stream.color_transfer];
        assert_eq!(found.map(Option::unwrap_or_default), [matrix, range, primaries, transfer], "{name}");
    }
    assert_eq!(ffprobe_stream(clip("h264").path(), "v:0").color_matrix, None, "untagged unless asked for");
}

#[test]
fn pixel_formats_are_those_asked_for() {
    let mut wrong = Vec::new();
    for (name, spec) in corpus() {
        let clip = spec.make();
        let found = ffprobe_stream(&clip.ffmpeg_input(), "v:0").pixel_format.expect("a pixel format");
        let wanted = match name {
            // As FFmpeg's decoders deliver them.
            "gif" | "gif-variable-rate" => "bgra",
            "h264-gray" => "yuv420p",
            "h264-bt709-full" => "yuvj420p",
            "h264-rgb" => "gbrp",
            "vp9-alpha" => "yuv420p",
            "prores-4444-alpha" => "yuva444p12le",
            _ => clip.spec().pixel_format_name(),
        };
        if found != wanted {
            wrong.push(format!("{name}: {found}, not {wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn structure_is_as_described() {
    let images = |name: &str| ffprobe_frames(clip(name).path()).iter().map(|frame| frame.picture_type).collect::<String>();
    assert!(!images("h264").contains('B'));
    for name in ["h264-b-frames", "hevc-b-frames", "mpeg4-b-frames", "h264-open-gop", "hevc-open-gop", "h264-annexb-b-frames"] {
        assert!(images(name).contains('B'), "{name}: {}", images(name));
    }
    let wide = ffprobe_stream(clip("h264-wide-pixels").path(), "v:0").sample_aspect_ratio.expect("a shape");
    assert_eq!((wide.num, wide.den), (4, 3));
    for name in ["h264-interlaced", "mpeg2-interlaced"] {
        let frames = ffprobe_frames(clip(name).path());
        assert!(frames.iter().all(|frame| frame.is_interlaced && frame.is_top_field_first), "{name}: {:?}", FieldOrder::TopFirst);
    }
    let sizes: Vec<_> = ffprobe_frames(clip("h264-size-change").path()).iter().map(|frame| (frame.width, frame.height)).collect();
    assert_eq!((sizes[0], sizes[11], sizes[12], sizes[23]), ((160, 120), (160, 120), (240, 180), (240, 180)));
    assert!(ffprobe_stream(clip("mkv-unseekable").path(), "v:0").duration_secs.is_none());
    assert!(ffprobe_stream(clip("h264-annexb").path(), "v:0").duration_secs.is_none());
    let edited = ffprobe_packets(clip("h264-edit-list").path(), "v:0");
    assert_eq!(edited.iter().filter(|packet| packet.is_discarded).count(), 5, "hidden packets are present");
}

#[test]
fn open_gops_reach_across_keyframes() {
    for name in ["h264-open-gop", "hevc-open-gop"] {
        let packets = ffprobe_packets(clip(name).path(), "v:0");
        let keys: Vec<_> = packets.iter().enumerate().filter(|(_, packet)| packet.is_keyframe).map(|(index, _)| index).collect();
        let leading = keys.iter().skip(1).any(|key| packets.get(key + 1).is_some_and(|next| next.pts < packets[*key].pts));
        assert!(leading, "{name}: a B-frame follows its keyframe in the file and precedes it on screen");
    }
}

#[test]
fn streams_start_where_asked() {
    for (name, wanted) in [("h264-start-offset", 3.5), ("mkv-start-offset", 12.0), ("ts-start-offset", 5000.0)] {
        let stream = ffprobe_stream(clip(name).path(), "v:0");
        let found = stream.time_base.seconds(stream.start_pts.expect("a start"));
        assert!((found - wanted).abs() < 0.2, "{name} starts at {found}");
    }
}

#[test]
fn side_streams_are_there_and_their_hashes_follow_the_packets() {
    let two = clip("h264-two-tracks");
    let sound: Vec<_> = ffprobe_streams(two.path()).into_iter().filter(|stream| stream.kind == "audio").collect();
    assert_eq!(sound.iter().map(|stream| stream.codec.as_str()).collect::<Vec<_>>(), ["aac", "mp3"]);
    assert_eq!(sound[1].language.as_deref(), Some("deu"));
    let hashes = stream_hashes(two.path(), "a");
    assert_eq!(hashes.len(), 2);
    assert_ne!(hashes[0], hashes[1]);
    assert_eq!(hashes[0], stream_hashes(clip("h264-mov-text").path(), "a")[0], "the same sound in another file");
    assert_eq!(ffprobe_stream(clip("h264-mov-text").path(), "s:0").codec, "mov_text");
    assert_eq!(ffprobe_stream(clip("h264-srt").path(), "s:0").codec, "subrip");
    assert_eq!(stream_hashes(clip("h264").path(), "a"), Vec::<String>::new());
    assert_eq!(ffprobe_tag(clip("h264-aac").path(), "title").as_deref(), Some("one track"));
}

#[test]
fn a_clip_is_made_once_even_by_many_at_a_time() {
    let spec = ClipSpec::default().frames(3).audio(AudioCodec::Aac).title("made by many");
    let paths: Vec<_> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..4).map(|_| scope.spawn(|| spec.make().path().to_path_buf())).collect();
        makers.into_iter().map(|maker| maker.join().expect("made")).collect()
    });
    assert!(paths.iter().all(|path| path == &paths[0]));
    assert_eq!(numbers(reference_planes(&paths[0], PixelFormat::Gray8)).len(), 3);
}

#[test]
fn a_repeated_clip_starts_again() {
    let clip = ClipSpec::default().frames(4).gop(4).repeats(3).make();
    let wanted: Vec<_> = [0, 1, 2, 3].repeat(3).into_iter().map(Some).collect();
    assert_eq!(numbers(reference_planes(clip.path(), PixelFormat::Gray8)), wanted);
    assert!(ffprobe_packets(clip.path(), "v:0").windows(2).all(|pair| pair[0].pts < pair[1].pts));
}

#[test]
fn references_keep_the_range_of_full_range_frames() {
    for name in ["mjpeg", "h264-bt709-full"] {
        let first = reference_planes(clip(name).path(), PixelFormat::Yuv420p).next().expect("a frame");
        let brightest = first.plane(0).iter().max().expect("not empty");
        assert!(*brightest > 245, "{name}: white is {brightest}, as in limited range");
    }
}
