//! Times hiding one face on one thread and prints medians: `cargo run --release --example obscure_speed`.

use std::{error::Error, sync::Arc, time::Instant};

use framerail_core::{BBox, ColorDescription, Detection, FramePool, Label, PixelFormat};
use framerail_vision::{MaskOptions, MosaicCell, Obscure, Obscurer};

const ROUNDS: usize = 30;

fn main() -> Result<(), Box<dyn Error>> {
    let pool = FramePool::new(1);
    let mut surface = pool.surface(PixelFormat::Yuv420p, 1920, 1080)?;
    let kinds = [
        Obscure::default(),
        Obscure::Box { strength: 0.5 },
        Obscure::Mosaic { cell: MosaicCell::Pixels(20) },
        Obscure::Solid { rgb: [0; 3] },
    ];
    for side in [60.0, 200.0, 600.0] {
        let label = Label { id: 0, name: Arc::from("face") };
        let face = Detection::new(BBox::from_cxcywh(960.0, 540.0, side, side * 1.25), 0.9, label);
        for kind in &kinds {
            let obscurer = Obscurer::new(kind.clone(), MaskOptions::default())?;
            let mut millis = Vec::new();
            for _ in 0..ROUNDS {
                let start = Instant::now();
                obscurer.run(&mut surface, &ColorDescription::default(), std::slice::from_ref(&face))?;
                millis.push(start.elapsed().as_secs_f64() * 1e3);
            }
            millis.sort_by(f64::total_cmp);
            println!("face {side:3} wide, {kind:?}: median {:.2} ms", millis[ROUNDS / 2]);
        }
    }
    Ok(())
}
