//! Stages that change size, shape, orientation and samples: pixels and attached data are transformed alike.

mod stages_support;

use std::{path::Path, process::Command, sync::Arc};

use framerail::{
    core::{
        Attribute, AttributeValue, BBox, ColorDescription, ColorMatrix, ColorRange, ColorTransfer, Detection, DetectionOrigin, Frame,
        FramePool, InstanceMask, PixelFormat, Rational, Rotation, StreamInfo,
    },
    pipeline::{FrameItem, Item},
};
use framerail_testkit::{ClipSpec, ffprobe_packets, ffprobe_stream};
use stages_support::{Ran, end, run, seen, stream, try_run};

/// Where a white mark is painted on a dark frame.
const MARK: BBox = BBox { x1: 8.0, y1: 12.0, x2: 24.0, y2: 20.0 };

/// A frame of a size and format with the mark, and a detection on it with a matching mask.
fn marked(format: PixelFormat, width: u32, height: u32) -> FrameItem {
    let mut surface = FramePool::new(1).surface(format, width, height).expect("size in range");
    let (dark, bright) = (16 << (format.bits() - 8), 220 << (format.bits() - 8));
    let mut planes = surface.planes_mut().expect("own");
    for (index, component) in format.components().iter().enumerate() {
        let (columns, rows) = format.component_size(index, width, height);
        let (across, down) = (width as f32 / columns as f32, height as f32 / rows as f32);
        for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
            let at = (x as f32 * across, y as f32 * down);
            let is_inside = (MARK.x1..MARK.x2).contains(&at.0) && (MARK.y1..MARK.y2).contains(&at.1);
            let code: u32 = match format.is_chroma(index) {
                true => 128 << (format.bits() - 8),
                false if is_inside => bright,
                false => dark,
            };
            let start = x as usize * component.step_bytes + component.offset_bytes;
            let bytes = (code << component.shift).to_le_bytes();
            let sample_bytes = if format.bits() > 8 { 2 } else { 1 };
            planes.row(component.plane, y as usize)[start..start + sample_bytes].copy_from_slice(&bytes[..sample_bytes]);
        }
    }
    let mut found = Detection { bbox: MARK, ..stages_support::face(0.9, Some(7), DetectionOrigin::Detected) };
    found.landmarks = vec![MARK.center()];
    // The left half of the box.
    let mask = InstanceMask::new(MARK, 2, 1, vec![255, 0]).expect("a mask");
    found.attributes = vec![Attribute { model: Arc::from("second"), value: AttributeValue::Mask(Arc::new(mask)) }];
    let item = seen(0, 0, vec![found]);
    FrameItem { frame: Frame { surface: framerail::core::Surface::Host(surface), width, height, ..item.frame }, ..item }
}

fn clip_of(item: FrameItem) -> Vec<Item> {
    let format = item.frame.surface.host().expect("on the host").format();
    let info = StreamInfo {
        width: item.frame.width,
        height: item.frame.height,
        pixel_format: format,
        sample_aspect_ratio: item.frame.sample_aspect_ratio,
        rotation: item.frame.rotation,
        color: item.frame.color,
        ..(*stream(0, "a")).clone()
    };
    vec![Item::StreamStart(Arc::new(info)), item.into(), end(0)]
}

fn result(ran: &Ran) -> (&StreamInfo, &FrameItem) {
    assert!(ran.outcome.result.is_ok(), "{}", ran.error());
    match &ran.items[..] {
        [Item::StreamStart(info), Item::Frame(item), Item::StreamEnd(_)] => (info, item),
        other => panic!("{other:?}"),
    }
}

/// Mean of the first component over a box, in 8 bits.
fn mean(item: &FrameItem, bbox: &BBox) -> f64 {
    let surface = item.frame.surface.host().expect("on the host");
    let component = surface.format().components()[0];
    let sample = |x: usize, y: usize| {
        let start = x * component.step_bytes + component.offset_bytes;
        let row = surface.row(component.plane, y);
        let code =
            if surface.format().bits() > 8 { u32::from(u16::from_le_bytes([row[start], row[start + 1]])) } else { u32::from(row[start]) };
        f64::from(code >> component.shift) / f64::from(1 << (surface.format().bits() - 8))
    };
    let bbox = bbox.clamped(surface.width(), surface.height());
    let columns = bbox.x1.round() as usize..bbox.x2.round() as usize;
    let rows = bbox.y1.round() as usize..bbox.y2.round() as usize;
    let all: Vec<f64> = rows.flat_map(|y| columns.clone().map(move |x| (x, y))).map(|(x, y)| sample(x, y)).collect();
    assert!(!all.is_empty(), "{bbox:?}");
    all.iter().sum::<f64>() / all.len() as f64
}

#[test]
fn detections_masks_and_pixels_go_the_same_way_through_every_stage() {
    let chains = [
        "scale 128x96",
        "scale 96x96 fit=pad",
        "scale 48x48 fit=fill",
        "scale 100x40 fit=stretch quality=area",
        "scale 50% quality=bilinear",
        "pad 100x80",
        "pad 100x80 x=20 y=10 color=#000000",
        "rotate 90",
        "rotate 180",
        "rotate 270",
        "flip horizontal",
        "flip vertical",
        "cropto 4,8,40,30",
        "cropto 1:1",
        "rotate 90 ! flip vertical ! scale x100 ! pad 120x120 ! cropto 10%,10%,80%,80% ! rotate 270",
        "caps size=80x80 format=yuv444p",
    ];
    for format in
        [PixelFormat::Yuv420p, PixelFormat::Yuv422p, PixelFormat::Nv12, PixelFormat::Yuv420p10, PixelFormat::Gray8, PixelFormat::Rgb24]
    {
        for chain in chains {
            let ran = run(&format!("{chain} ! collect"), clip_of(marked(format, 64, 48)));
            let (info, item) = result(&ran);
            let name = format!("{format}: {chain}");
            let surface = item.frame.surface.host().expect("on the host");
            assert_eq!((surface.width(), surface.height()), (item.frame.width, item.frame.height), "{name}");
            assert_eq!((info.width, info.height, info.pixel_format), (item.frame.width, item.frame.height, surface.format()), "{name}");
            let [found] = &item.detections[..] else { panic!("{name}: {:?}", item.detections) };
            assert_eq!(found.track_id, Some(7));
            // Well inside the edge everything is white, outside nothing.
            let BBox { x1, y1, x2, y2 } = found.bbox;
            let inner = found.bbox.scaled(0.5);
            assert!(mean(item, &inner) > 200.0, "{name}: {} in {:?}", mean(item, &inner), found.bbox);
            for beside in [BBox::from_xyxy(x1 - 4.0, y1, x1 - 2.0, y2), BBox::from_xyxy(x1, y2 + 2.0, x2, y2 + 4.0)] {
                if beside.x1 < 0.0 || beside.y2 > item.frame.height as f32 {
                    continue;
                }
                assert!(mean(item, &beside) < 40.0, "{name}: {} in {beside:?}", mean(item, &beside));
            }
            let center = found.bbox.center();
            assert!((found.landmarks[0].x - center.x).abs() < 0.01 && (found.landmarks[0].y - center.y).abs() < 0.01, "{name}");
            let AttributeValue::Mask(mask) = &found.attributes[0].value else { panic!("{name}") };
            assert_eq!(*mask.bbox(), found.bbox, "{name}");
        }
    }
}

#[test]
fn the_turn_that_a_frame_needs_for_display_is_made_first() {
    for rotation in Rotation::ALL {
        let mut item = marked(PixelFormat::Yuv420p, 64, 48);
        item.frame.rotation = rotation;
        item.frame.sample_aspect_ratio = Rational::new(4, 3);
        let ran = run("scale 100% ! collect", clip_of(item));
        let (info, item) = result(&ran);
        assert_eq!((info.rotation, item.frame.rotation), (Rotation::None, Rotation::None));
        let expected = if rotation.swaps_sides() { (36, 64) } else { (86, 48) };
        assert_eq!((info.width, info.height), expected, "{rotation:?}: pixels are square then");
        assert!(mean(item, &item.detections[0].bbox.scaled(0.7)) > 200.0, "{rotation:?}");
    }
}

#[test]
fn what_is_cut_off_is_counted_and_pixels_are_not_copied() {
    let ran = run("cropto 40,0,24,48 ! collect", clip_of(marked(PixelFormat::Yuv420p, 64, 48)));
    let (_, item) = result(&ran);
    assert!(item.detections.is_empty());
    assert_eq!((ran.counter("detections_outside"), ran.counter("frames_changed")), (1, 1));
    // Later stages may write to it.
    let ran = run("cropto 0,0,40,40 ! blur kind=solid color=white ! collect", clip_of(marked(PixelFormat::Yuv420p, 64, 48)));
    assert!(mean(result(&ran).1, &BBox::from_xyxy(9.0, 9.0, 23.0, 22.0)) > 200.0);
}

#[test]
fn samples_are_converted_as_their_tags_say() {
    let mut item = marked(PixelFormat::Yuv420p, 64, 48);
    item.frame.color = ColorDescription { matrix: ColorMatrix::Bt601, range: ColorRange::Limited, ..ColorDescription::default() };
    let ran = run("convert range=full ! collect", clip_of(item.clone()));
    let (info, full) = result(&ran);
    assert_eq!(
        (info.color.range, full.frame.color.range, full.frame.color.matrix),
        (ColorRange::Full, ColorRange::Full, ColorMatrix::Bt601)
    );
    let corner = BBox::from_xyxy(40.0, 30.0, 60.0, 44.0);
    assert!(mean(full, &corner) < 1.5 && (mean(full, &MARK.scaled(0.5)) - 237.6).abs() < 1.5, "{}", mean(full, &MARK.scaled(0.5)));
    let ran = run("convert format=rgb24 ! convert format=yuv444p ! collect", clip_of(item));
    let (_, back) = result(&ran);
    assert_eq!((back.frame.color.matrix, back.frame.color.range), (ColorMatrix::Bt601, ColorRange::Limited));
    assert!((mean(back, &corner) - 16.0).abs() < 1.5 && (mean(back, &MARK.scaled(0.5)) - 220.0).abs() < 1.5);

    let mut hdr = marked(PixelFormat::Yuv420p10, 64, 48);
    hdr.frame.color =
        ColorDescription { matrix: ColorMatrix::Bt2020, transfer: ColorTransfer(16), range: ColorRange::Limited, ..hdr.frame.color };
    let ran = run("convert tone_map=bt2390 ! collect", clip_of(hdr));
    let (info, sdr) = result(&ran);
    assert_eq!(
        (info.pixel_format, info.color.transfer, sdr.frame.color.matrix),
        (PixelFormat::Yuv420p, ColorTransfer(1), ColorMatrix::Bt709)
    );
    assert!(mean(sdr, &corner) < 20.0 && mean(sdr, &MARK.scaled(0.5)) > 200.0, "{}", mean(sdr, &MARK.scaled(0.5)));
}

#[test]
fn pinned_formats_are_checked_or_made() {
    let clip = || clip_of(marked(PixelFormat::Yuv420p, 64, 48));
    assert!(run("caps size=64x48 format=yuv420p fps=25 otherwise=fail ! collect", clip()).outcome.result.is_ok());
    let error = run("caps size=32x48 otherwise=fail ! collect", clip()).error();
    assert!(error.contains("frames are 64x48, not 32x48"), "{error}");
    let refused = |text: &str| match try_run(&format!("{text} ! collect"), clip(), Some(1)) {
        Ok(ran) => panic!("{text} ran: {}", ran.error()),
        Err(problem) => problem,
    };
    assert!(refused("caps fps=30").contains("the frame rate is 25.00, not 30.00"));
    for (text, why) in [
        ("caps", "give format=, size= or fps="),
        ("convert", "there is nothing to convert"),
        ("convert format=yuv999", "is not a pixel format"),
        ("scale 640", "is not a size"),
        ("scale 64x64 color=red", "fit=pad"),
        ("pad 10x10 x=4", "needs y= as well"),
        ("rotate 45", "90"),
        ("cropto 1,2,3", "x,y,w,h"),
        ("cropto 0:9", "is not an aspect ratio"),
    ] {
        assert!(refused(text).contains(why), "{text}: {}", refused(text));
    }
    let error = run("pad 40x40 ! collect", clip()).error();
    assert!(error.contains("64x48 is larger than 40x40") && error.contains("fit=pad"), "{error}");
}

#[test]
fn files_are_written_in_another_size() {
    let clip = ClipSpec::default().size(96, 64).frames(5).make();
    let folder = tempfile::tempdir().expect("temporary folder");
    let place = |name: &str| folder.path().join(name);
    let text = format!(
        "read '{}' ! tee ( write '{}' size=48x48 fit=pad ) ( frames '{}' size=24x ) ! cropto 2:3 ! rotate 90 ! write '{}'",
        clip.path().display(),
        place("small.mp4").display(),
        place("stills").display(),
        place("turned.mp4").display()
    );
    framerail::run(&text).expect("written");
    let size = |name: &str| {
        let stream = ffprobe_stream(&place(name), "v:0");
        (stream.width, stream.height)
    };
    assert_eq!((size("small.mp4"), size("turned.mp4")), ((48, 48), (64, 42)));
    assert_eq!(ffprobe_packets(&place("small.mp4"), "v:0").len(), 5);
    let still = std::fs::read_dir(place("stills")).expect("a folder").next().expect("a file").expect("readable").path();
    let still = ffprobe_stream(&still, "v:0");
    assert_eq!((still.width, still.height), (24, 16));
}

fn clip_of_frames(count: u64) -> Vec<Item> {
    stages_support::whole(0, "a", count)
}

fn times(ran: &Ran) -> Vec<f64> {
    assert!(ran.outcome.result.is_ok(), "{}", ran.error());
    ran.items.iter().filter_map(|item| if let Item::Frame(item) = item { Some(item.frame.seconds()) } else { None }).collect()
}

#[test]
fn filters_change_pixels_and_keep_times_numbers_and_detections() {
    let ran = run(
        "filter 'lutyuv=y=negval,split[a][b];[b]null[c];[a][c]blend=all_mode=average' ! collect",
        clip_of(marked(PixelFormat::Yuv420p, 64, 48)),
    );
    let (info, item) = result(&ran);
    assert_eq!((info.width, info.height, item.detections.len(), item.detections[0].track_id), (64, 48, 1, Some(7)));
    assert!(mean(item, &MARK.scaled(0.5)) < 45.0 && mean(item, &BBox::from_xyxy(40.0, 30.0, 60.0, 44.0)) > 230.0);

    // A filter that delays frames outputs all of them at the end.
    let ran = run("filter 'tmix=frames=3' ! collect", clip_of_frames(6));
    assert_eq!(ran.frames()[&0], [0, 1, 2, 3, 4, 5]);
    assert_eq!(times(&ran), [0.0, 0.04, 0.08, 0.12, 0.16, 0.2]);
    let ran = run("filter 'format=rgb24' ! collect", clip_of(marked(PixelFormat::Yuv420p, 64, 48)));
    let (info, item) = result(&ran);
    assert_eq!((info.pixel_format, info.color.matrix, item.frame.color.matrix), (PixelFormat::Rgb24, ColorMatrix::Rgb, ColorMatrix::Rgb));
}

#[test]
fn frames_that_filters_drop_or_add_are_counted() {
    let counts = |ran: &Ran| [ran.counter("frames_dropped_by_filter"), ran.counter("frames_added_by_filter")];
    let ran = run("filter 'framestep=2' ! collect", clip_of_frames(6));
    assert_eq!((times(&ran), counts(&ran)), (vec![0.0, 0.08, 0.16], [3, 0]));
    let ran = run("filter 'fps=50' ! collect", clip_of_frames(4));
    let found = times(&ran);
    assert_eq!(found.len() as u64, 4 + counts(&ran)[1] - counts(&ran)[0]);
    assert!(found.windows(2).all(|pair| (pair[1] - pair[0] - 0.02).abs() < 1e-9), "{found:?}");
    let ran = run("filter 'trim=end_frame=2' ! collect", clip_of_frames(5));
    assert_eq!((ran.frames()[&0].clone(), counts(&ran)), (vec![0, 1], [3, 0]));
}

#[test]
fn sizes_of_filters_show_before_the_start_and_change_in_mid_stream() {
    let ran = run("filter 'scale=32:24' detections=drop ! collect", clip_of(marked(PixelFormat::Yuv420p, 64, 48)));
    let (info, item) = result(&ran);
    assert_eq!((info.width, info.height, item.frame.width, item.detections.len()), (32, 24, 32, 0));
    let mut items = clip_of_frames(2);
    let mut other = marked(PixelFormat::Yuv420p, 96, 80);
    (other.frame.index, other.frame.pts) = (2, framerail::core::Pts(80));
    items.insert(3, other.into());
    let ran = run("filter hqdn3d detections=keep ! collect", items);
    let sizes: Vec<(u32, u32)> = ran
        .items
        .iter()
        .filter_map(|item| if let Item::Frame(item) = item { Some((item.frame.width, item.frame.height)) } else { None })
        .collect();
    assert_eq!((sizes, times(&ran)), (vec![(64, 48), (64, 48), (96, 80)], vec![0.0, 0.04, 0.08]));
}

#[test]
fn filters_that_cannot_be_meant_are_refused_before_the_start() {
    let refused = |text: &str| match try_run(&format!("{text} ! collect"), clip_of(marked(PixelFormat::Yuv420p, 64, 48)), Some(1)) {
        Ok(ran) => panic!("{text} ran: {}", ran.error()),
        Err(problem) => problem,
    };
    for (text, why) in [
        ("filter hflip", "boxes would no longer fit"),
        ("filter 'movie=/etc/passwd'", "open=yes"),
        ("filter 'drawtext=text=a:textfile=/etc/passwd'", "open=yes"),
        ("filter frobnicate", "open=yes"),
        ("filter frobnicate open=yes", "does not have it"),
        ("filter ''", "there is an empty filter"),
    ] {
        assert!(refused(text).contains(why), "{text}: {}", refused(text));
    }
    for (text, why) in [
        ("filter split", "one input and one output"),
        ("filter 'overlay'", "one input and one output"),
        ("filter 'hue=zz=1'", "does not take"),
    ] {
        let ran = run(&format!("{text} ! collect"), clip_of(marked(PixelFormat::Yuv420p, 64, 48)));
        assert!(ran.error().contains(why), "{text}: {}", ran.error());
    }
}

/// Raw samples of a file's first frame, as FFmpeg decodes it.
fn samples(path: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    let output = command.args(["-v", "error", "-i"]).arg(path).args(arguments).args(["-frames:v", "1", "-f", "rawvideo", "-"]).output();
    output.expect("ffmpeg").stdout
}

#[test]
fn stages_change_samples_as_the_filters_of_ffmpeg_of_that_name() {
    let folder = tempfile::tempdir().expect("temporary folder");
    // Odd sides, a bar at each border, other subsampling and depths.
    for (format, size) in [
        ("yuv420p", "66x50"),
        ("yuv420p", "67x51"),
        ("yuv422p10le", "66x50"),
        ("yuv444p12le", "67x51"),
        ("gray", "67x51"),
        ("yuva420p", "66x50"),
    ] {
        let (format, clip) = (format, folder.path().join(format!("{format}-{size}.mkv")));
        let image = format!("testsrc2=s=128x96:d=0.04,scale={}", size.replace('x', ":"));
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-f", "lavfi", "-i", &image, "-c:v", "ffv1", "-pix_fmt", format]).arg(&clip);
        assert!(command.status().expect("ffmpeg").success());
        let cases = [
            ("rotate 90", "transpose=clock", 0.0),
            ("rotate 270", "transpose=cclock", 0.0),
            ("flip vertical", "vflip", 0.0),
            ("flip horizontal", "hflip", 0.0),
            ("cropto 10,8,32,20", "crop=32:20:10:8", 0.0),
            // Rounding of chroma positions and of intermediate sums differ by a step or two.
            ("scale 40x30 fit=stretch", "scale=40:30:flags=bicubic+accurate_rnd+full_chroma_int", 0.6),
        ];
        for (number, (stage, filter, tolerance)) in cases.into_iter().enumerate() {
            // Rotating 4:2:2 by a quarter needs other subsampling, which is 4:4:4.
            if format.starts_with("yuv422") && stage.starts_with("rotate") {
                continue;
            }
            let out = folder.path().join(format!("{format}-{size}-{number}.mkv"));
            framerail::run(&format!("read {} ! {stage} ! write {} codec=ffv1", clip.display(), out.display())).expect("written");
            let (found, expected) = (samples(&out, &[]), samples(&clip, &["-vf", filter]));
            assert_eq!(found.len(), expected.len(), "{stage} of {format} {size}");
            assert!(!found.is_empty());
            let difference: f64 = if format.ends_with("le") {
                let pairs = found.chunks_exact(2).zip(expected.chunks_exact(2));
                pairs.map(|(a, b)| f64::from(u16::from_le_bytes([a[0], a[1]]).abs_diff(u16::from_le_bytes([b[0], b[1]])))).sum::<f64>()
                    * 2.0
            } else {
                found.iter().zip(&expected).map(|(a, b)| f64::from(a.abs_diff(*b))).sum()
            };
            let mean = difference / found.len() as f64;
            assert!(mean <= tolerance, "{stage} of {format} {size}: differs from {filter} by {mean:.3} a sample");
        }
    }
}
