//! Compares hiding with framerail-vision.

use std::sync::Arc;

use framerail_core::{
    Attribute, AttributeValue, BBox, ColorDescription, Detection, HostSurface, InstanceMask, Label, MaskCover, PixelFormat, Point,
};
use framerail_vision::{MaskOptions, MaskShape, MosaicCell, Obscure, Obscurer};

use super::{KernelRunner, Noise, codes, copied};

fn face(noise: &mut Noise, width: u32, height: u32) -> Detection {
    let (w, h) = (width as f32, height as f32);
    let (x, y, side) = (noise.between(-0.1 * w, w), noise.between(-0.1 * h, h), noise.between(2.0, 0.6 * w.min(h)));
    let bbox = BBox::from_xyxy(x, y, x + side, y + side * noise.between(0.7, 1.5));
    let mut face = Detection::new(bbox, 0.9, Label { id: 0, name: Arc::from("face") });
    if noise.below(2) == 1 {
        let mut eye = |part: f32| Point { x: x + side * part, y: y + side * noise.between(0.2, 0.8) };
        face.landmarks = vec![eye(0.3), eye(0.7)];
    }
    let contour = match noise.below(4) {
        0 => mask(noise, bbox),
        1 => {
            let mut point = |_| Point { x: x + side * noise.between(-0.2, 1.2), y: y + side * noise.between(-0.2, 1.2) };
            AttributeValue::Landmarks((0..9).map(&mut point).collect())
        }
        _ => return face,
    };
    face.attributes = vec![Attribute { model: Arc::from("second"), value: contour }];
    face
}

/// A round mask of coarse cells with ragged edges.
fn mask(noise: &mut Noise, bbox: BBox) -> AttributeValue {
    let (columns, rows) = (3 + noise.below(20), 3 + noise.below(20));
    let cell = |at: u32| {
        let from_middle = |at: u32, of: u32| (at as f32 + 0.5) / of as f32 - 0.5;
        let radius = from_middle(at % columns, columns).hypot(from_middle(at / columns, rows));
        ((0.45 - radius) * 600.0 + noise.between(0.0, 200.0)).clamp(0.0, 255.0) as u8
    };
    let coverage: Vec<u8> = (0..columns * rows).map(cell).collect();
    AttributeValue::Mask(Arc::new(InstanceMask::new(bbox.scaled(1.2), columns, rows, coverage).expect("a finite box")))
}

/// Number of samples that differ between two frames, and the maximum difference.
fn difference(found: &HostSurface, expected: &HostSurface) -> (usize, u32) {
    let (mut count, mut most) = (0, 0);
    for component in 0..found.format().components().len() {
        for (a, b) in codes(found, component).into_iter().zip(codes(expected, component)) {
            count += usize::from(a != b);
            most = most.max(u32::from(a.abs_diff(b)));
        }
    }
    (count, most)
}

pub fn hides_as_the_host_does(gpu: &dyn KernelRunner) {
    let mut noise = Noise(77);
    let formats =
        [PixelFormat::Nv12, PixelFormat::P010, PixelFormat::Yuv420p, PixelFormat::Yuv444p10, PixelFormat::Rgb24, PixelFormat::Gray8];
    let kinds = [
        Obscure::Gaussian { strength: 0.15 },
        Obscure::Gaussian { strength: 0.9 },
        Obscure::Box { strength: 0.5 },
        Obscure::Box { strength: 3.0 },
        Obscure::Mosaic { cell: MosaicCell::Pixels(7) },
        Obscure::Mosaic { cell: MosaicCell::Relative(0.2) },
        Obscure::Solid { rgb: [250, 40, 10] },
    ];
    let (mut samples, mut differing, mut contours) = (0, 0, 0);
    for round in 0..42 {
        let format = formats[round % formats.len()];
        let kind = kinds[round % kinds.len()].clone();
        let shape = noise.pick(&[MaskShape::Rectangle, MaskShape::Ellipse, MaskShape::Contour]);
        let mask = MaskOptions {
            shape,
            mask_scale: noise.pick(&[0.8, 1.0, 1.3, 2.0]),
            feather: noise.pick(&[0.0, 0.05, 0.4]),
            ..Default::default()
        };
        let obscurer = Obscurer::new(kind.clone(), mask).expect("in range");
        let color = noise.color();
        let (mut found, mut expected, mut regions) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            let (width, height) = noise.pick(&[(160, 120), (97, 61), (320, 90), (31, 200)]);
            let faces: Vec<Detection> = (0..noise.below(8)).map(|_| face(&mut noise, width, height)).collect();
            let image = noise.image(format, width, height);
            let mut host = copied(&image);
            let counts = obscurer.run(&mut host, &color, &faces).expect("writable");
            let (plans, planned) = obscurer.plan((width, height), format, &color, &faces).expect("no overlay");
            assert_eq!((counts.invalid, counts.contours_missing), (planned.invalid, planned.contours_missing));
            contours += plans.iter().filter(|plan| matches!(plan.mask.cover, MaskCover::Raster(_))).count();
            regions.push(plans);
            found.push(image);
            expected.push(host);
        }
        gpu.obscure(&mut found, &regions);
        for (found, expected) in found.iter().zip(&expected) {
            let (count, most) = difference(found, expected);
            assert!(most <= 1, "round {round}: {format} {kind:?} {mask:?}: off by {most}");
            differing += count;
            samples += found.sample_bytes_total() / format.sample_bytes();
        }
    }
    println!("{differing} of {samples} samples differ by 1, {contours} contours");
    assert!(contours > 20, "{contours} contours");
    assert!(differing * 200 < samples, "{differing} of {samples} samples differ by 1");
}

pub fn many_regions_of_many_frames_take_several_launches(gpu: &dyn KernelRunner) {
    let mut noise = Noise(78);
    let obscurer = Obscurer::new(Obscure::default(), MaskOptions::default()).expect("in range");
    let color = ColorDescription::default();
    let (mut found, mut expected, mut regions) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..4 {
        let faces: Vec<Detection> = (0..30).map(|_| face(&mut noise, 300, 40)).collect();
        let image = noise.image(PixelFormat::Nv12, 300, 200);
        let mut host = copied(&image);
        obscurer.run(&mut host, &color, &faces).expect("writable");
        let (plans, _) = obscurer.plan((300, 200), PixelFormat::Nv12, &color, &faces).expect("no overlay");
        regions.push(plans);
        found.push(image);
        expected.push(host);
    }
    gpu.obscure(&mut found, &regions);
    for (found, expected) in found.iter().zip(&expected) {
        // Rounding errors of thirty stacked blurs add up.
        assert!(difference(found, expected).1 <= 2);
    }
}
