//! Every codec and special case of the corpus: frames that show their number arrive in order, and survive writing.

mod common;

use common::{folder, options, read};
use framerail_core::{FramePool, StreamInfo};
use framerail_media::{MediaItem, MediaReader, MediaWriter, WriterOptions};
use framerail_testkit::{corpus, read_frame_code};

fn numbers(frames: &[framerail_core::Frame]) -> Vec<Option<u64>> {
    // Rotated clips have a rotated code: frames that are coded upright are rotated by a player.
    frames.iter().map(|frame| Some(read_frame_code(frame.surface.host().ok()?)?.number)).collect()
}

#[test]
fn every_clip_gives_its_frames_in_order() {
    for (name, spec) in corpus() {
        if let Some(reason) = spec.unavailable() {
            framerail_testkit::require("ffmpeg-encoders", false, &format!("{name}: {reason}"));
            continue;
        }
        let clip = spec.make();
        let contents = read(&options(clip.path()));
        let expected: Vec<Option<u64>> = spec.frame_numbers().into_iter().map(Some).collect();
        assert_eq!(numbers(&contents.frames), expected, "{name}: {:?}", contents.damage);
        assert!(contents.frames.windows(2).all(|pair| pair[0].pts < pair[1].pts), "{name}");
        let start = contents.frames[0].seconds();
        for (frame, secs) in contents.frames.iter().zip(spec.relative_secs()) {
            assert!((frame.seconds() - start - secs).abs() < 2e-3, "{name} frame {}: {} for {secs}", frame.index, frame.seconds() - start);
        }
        assert!(!contents.damage.is_any(), "{name} is intact: {:?}", contents.damage);
    }
}

#[test]
fn every_clip_survives_writing() {
    let folder = folder();
    for (name, spec) in corpus() {
        if spec.unavailable().is_some() {
            continue;
        }
        let clip = spec.make();
        let path = common::at(&folder, &format!("{name}.mkv"));
        let mut reader = MediaReader::open(&options(clip.path()), &FramePool::new(8)).expect("readable");
        let info: StreamInfo = reader.info().clone();
        let lossless = WriterOptions { codec: Some("ffv1".into()), ..WriterOptions::default() };
        let mut writer = MediaWriter::create(&path, &lossless, &info).expect(name);
        while let Some(item) = reader.next().expect("no fatal error") {
            match item {
                MediaItem::Frame(frame) => writer.write_frame(&frame).expect(name),
                MediaItem::Packet(packet) => writer.write_packet(&packet).expect(name),
            }
        }
        let report = writer.finish().expect(name);
        let expected: Vec<Option<u64>> = spec.frame_numbers().into_iter().map(Some).collect();
        assert_eq!(numbers(&read(&options(&path)).frames), expected, "{name}: {report:?} {info:?}");
    }
}
