//! Compares drawing with framerail-vision, and repacking with plain copies.

use std::sync::Arc;

use framerail_core::{Attribute, AttributeValue, BBox, Detection, DetectionOrigin, HostSurface, InstanceMask, Label, PixelFormat, Point};
use framerail_vision::{Canvas, DrawOptions, Sketch};

use super::{KernelRunner, Noise, codes, copied, planar};

fn detection(noise: &mut Noise, width: u32, height: u32) -> Detection {
    let (w, h) = (width as f32, height as f32);
    let (x, y) = (noise.between(-0.2 * w, w), noise.between(-0.2 * h, h));
    let bbox = BBox::from_xyxy(x, y, x + noise.between(0.0, 0.7 * w), y + noise.between(0.0, 0.7 * h));
    let (id, name) = noise.pick(&[(0, "face"), (1, "Straße 9"), (7, "中x"), (3, "")]);
    let mut detection = Detection::new(bbox, noise.between(0.0, 1.0), Label { id, name: Arc::from(name) });
    detection.landmarks = (0..noise.below(6)).map(|_| Point { x: noise.between(-5.0, w), y: noise.between(-5.0, h) }).collect();
    if noise.below(3) == 0 {
        let coverage: Vec<u8> = (0..35).map(|_| noise.below(256) as u8).collect();
        // Boxes without area have no mask.
        let mask = InstanceMask::new(bbox, 7, 5, coverage).ok().map(|mask| AttributeValue::Mask(Arc::new(mask)));
        detection.attributes = mask.into_iter().map(|value| Attribute { model: Arc::from("second"), value }).collect();
    }
    if noise.below(3) == 0 {
        detection.origin = DetectionOrigin::Held;
    }
    detection
}

fn most_difference(found: &HostSurface, expected: &HostSurface) -> (usize, u16) {
    let components = 0..found.format().components().len();
    let pairs = components.flat_map(|component| codes(found, component).into_iter().zip(codes(expected, component)));
    pairs.fold((0, 0), |(count, most), (a, b)| (count + usize::from(a != b), most.max(a.abs_diff(b))))
}

pub fn detections_are_drawn_as_on_the_host(gpu: &dyn KernelRunner) {
    let mut noise = Noise(91);
    for format in
        [PixelFormat::Nv12, PixelFormat::P010, PixelFormat::Yuv420p, PixelFormat::Yuv444p10, PixelFormat::Rgb24, PixelFormat::Gray8]
    {
        let (mut found, mut expected, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for (width, height) in [(160, 120), (97, 61), (260, 33), (31, 120), (1, 1)] {
            let color = noise.color();
            let detections: Vec<Detection> = (0..noise.below(40)).map(|_| detection(&mut noise, width, height)).collect();
            let line_width = noise.pick(&[None, Some(1), Some(2), Some(3)]);
            let options = DrawOptions { track_ids: true, line_width, ..Default::default() };
            let image = noise.image(format, width, height);
            let mut host = copied(&image);
            let mut canvas = Canvas::new(&mut host, &color);
            canvas.detections(&detections, &options).expect("writable");
            let (from, to) = (Point { x: 3.3, y: 5.1 }, Point { x: 90.0, y: 40.7 });
            canvas.line(from, to, [9, 250, 30], 4.5).expect("writable");
            canvas.fill(&BBox::from_xyxy(5.0, 5.0, 22.0, 24.0), [200, 0, 90], 100).expect("writable");
            let mut sketch = Sketch::new((width, height), format, &color);
            sketch.detections(&detections, &options);
            sketch.line(from, to, [9, 250, 30], 4.5);
            sketch.fill(&BBox::from_xyxy(5.0, 5.0, 22.0, 24.0), [200, 0, 90], 100);
            all.push(sketch.strokes().to_vec());
            found.push(image);
            expected.push(host);
        }
        gpu.draw(&mut found, &all);
        for (found, expected) in found.iter().zip(&expected) {
            let (count, most) = most_difference(found, expected);
            assert!(most <= 1, "{format}: off by {most}");
            assert!(count * 100 <= found.sample_bytes_total(), "{format}: {count} samples differ");
        }
    }
}

pub fn repacked_surfaces_hold_the_same_samples(gpu: &dyn KernelRunner) {
    let mut noise = Noise(92);
    for format in [PixelFormat::Nv12, PixelFormat::P010] {
        for (width, height) in [(64, 48), (33, 21), (1, 1), (530, 7), (15, 2)] {
            let image = noise.image(format, width, height);
            let split = gpu.repacked(&image);
            assert_eq!(most_difference(&split, &planar(&image)), (0, 0), "{format} {width}x{height}");
            let joined = gpu.repacked(&split);
            assert_eq!(joined.format(), format);
            assert_eq!(most_difference(&joined, &image), (0, 0), "{format} {width}x{height}, back");
        }
    }
}
