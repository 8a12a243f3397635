//! Checks that damaged files are damaged as described, and nowhere else.

use std::{fs, path::Path, process::Command};

use framerail_core::PixelFormat;
use framerail_testkit::{
    ClipSpec, Container, Tolerance, damage, difference, ffprobe_packets, ffprobe_streams, read_frame_number, reference_planes,
};

fn len(path: &Path) -> u64 {
    fs::metadata(path).expect("there").len()
}

#[test]
fn cuts_have_the_share_asked_for() {
    let clip = ClipSpec::default().make();
    let whole = len(clip.path());
    assert_eq!(len(&damage::cut(clip.path(), 0.5)), (whole as f64 * 0.5).round() as u64);
    assert_eq!(len(&damage::cut(clip.path(), 0.0)), 0);
    assert_eq!(len(&damage::cut_start(clip.path(), 0.25)), whole - (whole as f64 * 0.25).round() as u64);
    assert_eq!(len(clip.path()), whole, "the clip itself stays whole");
}

#[test]
fn a_cut_clip_with_its_header_in_front_still_gives_its_first_frames() {
    let clip = ClipSpec::default().frames(32).fast_start().make();
    let half = damage::cut(clip.path(), 0.5);
    let numbers: Vec<_> = reference_planes(&half, PixelFormat::Gray8).map_while(|surface| read_frame_number(&surface)).collect();
    assert!(numbers.len() >= 8 && numbers.len() < 32, "{numbers:?}");
    assert!(numbers.iter().enumerate().all(|(index, number)| *number == index as u64), "{numbers:?}");
}

#[test]
fn flipped_bytes_are_seeded_and_spare_the_first_frame() {
    let clip = ClipSpec::default().frames(32).make();
    let flipped = damage::flip_bytes(clip.path(), 1, 20);
    assert_eq!(flipped, damage::flip_bytes(clip.path(), 1, 20));
    assert_ne!(flipped, damage::flip_bytes(clip.path(), 2, 20));
    let (before, after) = (fs::read(clip.path()).expect("clip"), fs::read(&flipped).expect("copy"));
    let changed: Vec<_> = before.iter().zip(&after).enumerate().filter(|(_, (a, b))| a != b).map(|(at, _)| at as u64).collect();
    assert!((1..=20).contains(&changed.len()), "{changed:?}");
    let packets = ffprobe_packets(clip.path(), "v:0");
    for at in changed {
        let inside = |position: u64, size: u64| (position..position + size).contains(&at);
        assert!(packets.iter().skip(1).any(|packet| inside(packet.position.expect("MP4 tells"), packet.size_bytes)));
    }
    let first = |path: &Path| reference_planes(path, PixelFormat::Yuv420p).next().expect("a frame");
    assert_eq!(difference(&first(clip.path()), &first(&flipped)).max, Tolerance::EXACT.max);
}

#[test]
fn a_wrecked_packet_costs_its_frame_only_until_the_next_keyframe() {
    let clip = ClipSpec::default().frames(24).gop(12).make();
    let wrecked = damage::wreck_packets(clip.path(), &[4]);
    let numbers: Vec<_> = reference_planes(&wrecked, PixelFormat::Gray8).map(|surface| read_frame_number(&surface)).collect();
    assert_eq!(numbers[..4], [Some(0), Some(1), Some(2), Some(3)]);
    assert_eq!(numbers.last(), Some(&Some(23)));
}

#[test]
fn files_that_are_no_video() {
    for path in [damage::text_file("mp4"), damage::empty_file("mp4")] {
        let status = Command::new("ffprobe").args(["-loglevel", "quiet"]).arg(&path).status().expect("ffprobe");
        assert!(!status.success(), "{}", path.display());
    }
    for container in [Container::Mp4, Container::Mkv, Container::Ts] {
        let streams = ffprobe_streams(&damage::sound_only(container));
        assert_eq!(streams.iter().map(|stream| stream.kind.as_str()).collect::<Vec<_>>(), ["audio"], "{container:?}");
    }
}
