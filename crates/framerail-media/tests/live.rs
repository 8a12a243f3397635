//! Joining a stream in mid-GOP, as with cameras.

mod common;

use std::fs;

use common::{ffmpeg, folder, options, read};
use framerail_media::InputOptions;

const TS_PACKET_BYTES: usize = 188;

#[test]
fn what_comes_before_the_first_keyframe_is_left_out_and_counted() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=160x96:rate=25 -frames:v 60 -c:v libx264 -preset ultrafast -bf 0 -g 20 -keyint_min 20 -sc_threshold 0 \
         -f mpegts whole.ts",
    );
    let whole = fs::read(folder.path().join("whole.ts")).expect("made");
    // From a third of the way into the first GOP.
    let from = whole.len() / 9 / TS_PACKET_BYTES * TS_PACKET_BYTES;
    let path = folder.path().join("cut.ts");
    fs::write(&path, &whole[from..]).expect("written");
    let joined = read(&InputOptions { waits_for_keyframe: true, ..options(&path) });
    assert_eq!(joined.frames.len(), 40, "the two whole GOPs");
    assert!(joined.frames[0].is_keyframe && joined.frames[0].index == 0);
    let skipped = joined.damage.packets_before_keyframe;
    assert!((1..20).contains(&skipped), "{skipped} packets before the keyframe");
    assert_eq!((joined.damage.decode_errors, joined.damage.packets_dropped), (0, 0));
    let from_start = read(&InputOptions { waits_for_keyframe: true, ..options(&folder.path().join("whole.ts")) });
    assert_eq!((from_start.frames.len(), from_start.damage.packets_before_keyframe), (60, 0));
}

#[test]
fn devices_are_read_through_the_library_that_is_loaded_for_them() {
    // Tests have no camera; FFmpeg's test source comes from the same library and takes the same path.
    let generator = InputOptions { format: Some("lavfi".into()), ..InputOptions::new("testsrc2=size=160x96:rate=25:duration=1") };
    let read = read(&generator);
    assert_eq!((read.frames.len(), read.frames[0].width, read.frames[0].height), (25, 160, 96));
    let camera = InputOptions { format: Some("v4l2".into()), ..InputOptions::new("/dev/video-none") };
    let error = framerail_media::Input::open(&camera).err().expect("no such camera").to_string();
    assert!(error.contains("/dev/video-none: no such file"), "{error}");
}
