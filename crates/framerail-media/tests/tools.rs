//! Images, probing, keyframes, deinterlacing.

mod common;

use common::{at, ffmpeg, folder, options, output, pts, read, samples};
use framerail_core::{FieldOrder, FramePool, PixelFormat};
use framerail_media::{DeinterlaceMethod, Deinterlacer, KeyframeIndex, load_image, probe, save_image};

#[test]
fn images_survive_saving() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc=size=67x45:rate=25:duration=0.04 -pix_fmt bgra -c:v ffv1 in.mkv");
    let frame = &read(&options(&at(&folder, "in.mkv"))).frames[0];
    let pool = FramePool::new(4);
    save_image(frame, &at(&folder, "out.png"), 90).expect("saved");
    let back = load_image(&at(&folder, "out.png"), &pool).expect("loaded");
    let raw = output("ffmpeg", folder.path(), "-i in.mkv -pix_fmt rgba -f rawvideo -");
    let ours: Vec<u8> = (0..45).flat_map(|row| back.row(0, row).to_vec()).collect();
    assert!(ours == raw);
    save_image(frame, &at(&folder, "out.jpg"), 100).expect("saved");
    let back = load_image(&at(&folder, "out.jpg"), &pool).expect("loaded");
    assert_eq!((back.width(), back.height(), back.format()), (67, 45, PixelFormat::Rgba));
    let off: i64 = (0..45).flat_map(|row| back.row(0, row).to_vec()).zip(&raw).map(|(a, b)| (i64::from(a) - i64::from(*b)).abs()).sum();
    assert!(off / (raw.len() as i64) < 20, "mean error {}", off / raw.len() as i64);
    assert!(save_image(frame, &at(&folder, "out.bmp"), 90).is_err_and(|error| error.is_usage()));
    save_image(frame, &at(&folder, "made/out.png"), 90).expect("folders are made");
}

#[test]
fn probe_reports_header_and_scan() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=96x64:rate=25:duration=2 -f lavfi -i sine=duration=2 -pix_fmt yuv420p -c:v libx264 -g 10 -sc_threshold 0 -c:a aac a.mp4",
    );
    let report = probe(&options(&at(&folder, "a.mp4")), true).expect("probed");
    assert_eq!((report.streams.len(), report.streams[0].codec.as_str(), report.streams[1].codec.as_str()), (2, "h264", "aac"));
    assert_eq!(report.streams[0].frames_by_header, Some(50));
    let scan = report.scan.as_ref().expect("counted");
    assert_eq!((scan.packets, scan.keyframes, scan.gop_shortest, scan.gop_longest, scan.is_variable_rate), (50, 5, 10, 10, false));
    let text = serde_json::to_string(&report).expect("serialisable");
    assert!(text.contains("\"pixel_format\":\"yuv420p\""));
    let index = KeyframeIndex::scan(&options(&at(&folder, "a.mp4"))).expect("scanned");
    assert_eq!(index.keyframes().collect::<Vec<_>>(), [0, 10, 20, 30, 40]);
    assert_eq!(index.sorted_pts(), pts(&read(&options(&at(&folder, "a.mp4"))).frames));
    ffmpeg(folder.path(), "-f lavfi -i sine=duration=1 -c:a aac sound.m4a");
    assert!(probe(&options(&at(&folder, "sound.m4a")), true).expect("sound is fine").scan.is_none());
}

#[test]
fn deinterlacing_equals_ffmpegs_filter() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=96x64:rate=50:duration=1 -vf interlace -flags +ilme+ildct -pix_fmt yuv420p -c:v mpeg2video in.mkv",
    );
    let frames = read(&options(&at(&folder, "in.mkv"))).frames;
    assert_eq!((frames.len(), frames[3].field_order), (25, FieldOrder::TopFirst));
    let expected = pts(&frames);
    for (method, name) in [(DeinterlaceMethod::Bwdif, "bwdif"), (DeinterlaceMethod::Yadif, "yadif")] {
        let mut deinterlacer = Deinterlacer::new(method, false);
        let mut results = Vec::new();
        for frame in frames.clone() {
            deinterlacer.push(frame).expect("taken");
            results.extend(std::iter::from_fn(|| deinterlacer.pull()));
        }
        deinterlacer.end().expect("drained");
        results.extend(std::iter::from_fn(|| deinterlacer.pull()));
        assert_eq!(pts(&results), expected, "{name}");
        assert_eq!(deinterlacer.deinterlaced(), 25);
        let raw = output("ffmpeg", folder.path(), &format!("-i in.mkv -vf {name}=mode=send_frame -fps_mode passthrough -f rawvideo -"));
        let ours: Vec<u8> = results.iter().flat_map(samples).collect();
        assert!(ours == raw, "{name}");
        assert_eq!(results[3].field_order, FieldOrder::Progressive);
    }
}
