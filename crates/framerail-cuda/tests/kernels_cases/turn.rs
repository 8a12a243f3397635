//! Checks quarter turns against their definition.

use framerail_core::{PixelFormat, Rotation};

use super::{KernelRunner, Noise, codes};

pub fn turned_frames_hold_each_sample_in_its_new_place(gpu: &dyn KernelRunner) {
    let mut noise = Noise(93);
    for format in [PixelFormat::Nv12, PixelFormat::P010, PixelFormat::Yuv420p, PixelFormat::Yuv444p, PixelFormat::Gray8] {
        for (width, height) in [(64, 48), (33, 21), (1, 1), (130, 7), (15, 40)] {
            let image = noise.image(format, width, height);
            for rotation in [Rotation::Clockwise90, Rotation::Half, Rotation::Clockwise270] {
                let found = gpu.turned(&image, rotation);
                let size = if rotation.swaps_sides() { (height, width) } else { (width, height) };
                assert_eq!((found.format(), found.width(), found.height()), (format, size.0, size.1));
                for component in 0..format.components().len() {
                    let (columns, rows) = format.component_size(component, width, height);
                    let (source, turned) = (codes(&image, component), codes(&found, component));
                    let (out_columns, out_rows) = if rotation.swaps_sides() { (rows, columns) } else { (columns, rows) };
                    let expected = (0..out_rows).flat_map(|y| (0..out_columns).map(move |x| (x, y))).map(|(x, y)| {
                        let (column, row) = match rotation {
                            Rotation::Clockwise90 => (y, rows - 1 - x),
                            Rotation::Half => (columns - 1 - x, rows - 1 - y),
                            _ => (columns - 1 - y, x),
                        };
                        source[(row * columns + column) as usize]
                    });
                    assert!(turned == expected.collect::<Vec<_>>(), "{format} {width}x{height} {rotation:?}, component {component}");
                }
            }
        }
    }
}
