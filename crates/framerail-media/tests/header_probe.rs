//! Opening with the header alone results in the same stream and frames as full probing.

mod common;

use common::{options, read, samples};
use framerail_media::{CodedFormat, Input, InputOptions, ProbeEffort, RotationPolicy};
use framerail_testkit::corpus;

#[test]
fn every_clip_of_the_corpus_reads_the_same() {
    for (name, spec) in corpus() {
        if spec.unavailable().is_some() {
            continue;
        }
        let clip = spec.make();
        let full = InputOptions { rotation: RotationPolicy::Keep, ..options(clip.path()) };
        let header = InputOptions { probe: ProbeEffort::Header, ..full.clone() };
        let (by_packets, by_header) = (read(&full), read(&header));
        assert_eq!(by_packets.damage, by_header.damage, "{name}");
        assert_eq!(by_packets.packets.len(), by_header.packets.len(), "{name}");
        let facts = |frame: &framerail_core::Frame| (frame.pts, frame.time_base, frame.color, frame.rotation, frame.sample_aspect_ratio);
        let of_all = |frames: &[framerail_core::Frame]| frames.iter().map(facts).collect::<Vec<_>>();
        assert_eq!(of_all(&by_packets.frames), of_all(&by_header.frames), "{name}");
        assert!(by_packets.frames.iter().zip(&by_header.frames).all(|(a, b)| samples(a) == samples(b)), "{name}");
    }
}

#[test]
fn the_header_says_size_rate_and_format() {
    for (name, spec) in corpus() {
        let is_stated = ["h264", "hevc", "vp9", "av1"].iter().any(|codec| name.starts_with(codec));
        if spec.unavailable().is_some() || !is_stated {
            continue;
        }
        let clip = spec.make();
        let full = Input::open(&options(clip.path())).expect("readable");
        let header = Input::open(&InputOptions { probe: ProbeEffort::Header, ..options(clip.path()) }).expect("readable");
        let (a, b) = (full.info(), header.info());
        assert_eq!((a.width, a.height, a.time_base, &a.codec), (b.width, b.height, b.time_base, &b.codec), "{name}");
        if let (Some(a), Some(b)) = (a.frame_rate, b.frame_rate) {
            let is_variable = name.contains("variable");
            assert!(is_variable || (a.as_f64() - b.as_f64()).abs() < 0.02 * a.as_f64(), "{name}: {a} and {b}");
        }
        let coded = CodedFormat::of(header.parameters());
        if let Some(format) = coded.filter(|_| !name.ends_with("rgb")).and_then(CodedFormat::pixel_format) {
            assert_eq!(format, a.pixel_format, "{name}: {coded:?}");
        }
    }
}

#[test]
fn headers_do_where_they_say_enough() {
    for (name, spec) in corpus() {
        let expected = match name {
            "h264" | "h264-b-frames" | "hevc" | "hevc-b-frames" | "vp8" | "vp9" | "av1" | "mkv-start-offset" => ProbeEffort::Header,
            "mpeg2" | "mpeg4-b-frames" | "h264-ts" | "h264-annexb" | "mp4-fragmented" | "png-images" | "gif" => ProbeEffort::Full,
            _ => continue,
        };
        if spec.unavailable().is_none() {
            let options = InputOptions { probe: ProbeEffort::Header, ..options(spec.make().path()) };
            assert_eq!(Input::open(&options).expect("readable").probe_effort(), expected, "{name}");
        }
    }
}

#[test]
fn a_selection_in_seconds_starts_at_the_same_frame() {
    for (name, spec) in corpus() {
        if !name.contains("start-offset") {
            continue;
        }
        let clip = spec.make();
        let full = InputOptions { start_secs: Some(0.2), ..options(clip.path()) };
        let header = InputOptions { probe: ProbeEffort::Header, ..full.clone() };
        assert_eq!(common::pts(&read(&full).frames), common::pts(&read(&header).frames), "{name}");
    }
}
