//! A playlist on a disk that becomes full: the written part stays playable, and the failure is reported.

mod common;

use std::{fs, os::unix::fs::symlink, time::Duration};

use common::{ffmpeg, folder, options, read};
use framerail_core::FramePool;
use framerail_media::{HlsOptions, MediaError, MediaItem, MediaReader, MediaWriter, WriterOptions};

#[test]
fn a_full_disk_is_reported_and_the_last_good_playlist_stays() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=160x96:rate=25 -frames:v 100 -c:v libx264 -preset ultrafast in.mp4");
    let mut reader = MediaReader::open(&options(&folder.path().join("in.mp4")), &FramePool::new(8)).expect("made");
    let path = folder.path().join("cam.m3u8");
    let hls = HlsOptions { segment: Duration::from_secs(1), ..HlsOptions::default() };
    let options_of_writer = WriterOptions { hls, low_latency: true, ..WriterOptions::default() };
    let mut writer = MediaWriter::create(&path, &options_of_writer, reader.info()).expect("made");
    // The third segment goes to a full device.
    symlink("/dev/full", folder.path().join("cam-00002.ts.tmp")).expect("linked");
    let mut failure = None;
    while let (None, Some(item)) = (&failure, reader.next().expect("sound")) {
        if let MediaItem::Frame(frame) = item {
            failure = writer.write_frame(&frame).err();
        }
    }
    let failure = failure.or_else(|| writer.finish().err());
    assert!(matches!(failure, Some(MediaError::DiskFull { .. })), "{failure:?}");
    let text = fs::read_to_string(&path).expect("there");
    let named: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(named, ["cam-00000.ts", "cam-00001.ts"], "{text}");
    let ended = folder.path().join("ended.m3u8");
    fs::write(&ended, text + "#EXT-X-ENDLIST\n").expect("written");
    assert_eq!(read(&options(&ended)).frames.len(), 50, "what is named can be played");
}
