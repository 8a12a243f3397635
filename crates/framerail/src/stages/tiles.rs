//! The `tiles` stage: makes the next detector run on overlapping tiles, to find small objects.
//!
//! Source: Akyon et al., "Slicing Aided Hyper Inference and Fine-tuning for Small Object Detection" (2022).

use framerail_core::BBox;
use framerail_pipeline::{
    ArgumentSpec, ConfigError, Counter, EdgeFormat, Emitter, Flow, FrameItem, LinkContext, OptionKind, OptionSpec, Options, PartFormat,
    PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::{MatchMetric, MergeOptions, MergeRule};

use super::link::input_of;
use crate::parts::{FrameParts, Part, PartOf};

/// Maximum number of tiles per frame.
const MAX_TILES: usize = 4096;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| TilesPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("tiles", "makes the next detector run on overlapping tiles, for small objects")
        .details(
            "The following `infer` runs on each tile, and also on the whole frame unless whole=no; detections in overlapping tiles are \
             merged (SAHI: Akyon et al., 2022). Tiles at the right and bottom edges are moved inside, so that all have the same size; \
             smaller frames are one tile. No pixels are copied.\n\nThe work grows with the number of tiles. Choose tiles about as large as \
             the model's input.",
        )
        .argument(ArgumentSpec::required("size", OptionKind::Size, "width and height of a tile in frame pixels, such as 640x640"))
        .option(OptionSpec::float("overlap", 0.0..=0.9).default(0.2).help("share of a tile that its neighbour covers too"))
        .option(OptionSpec::switch("whole").default("yes").help("whether the model also runs on the whole frame, for large objects"))
        .option(
            OptionSpec::choice(
                "merge",
                &[
                    ("nmm", "the best grows over those that match (greedy non-maximum merging)"),
                    ("nms", "the best is kept, matches are suppressed"),
                ],
            )
            .default("nmm")
            .help("how detections of overlapping tiles are merged"),
        )
        .option(
            OptionSpec::choice("metric", &[("ios", "intersection over the smaller box"), ("iou", "intersection over union")])
                .default("ios")
                .help("measure of the overlap of two detections"),
        )
        .option(OptionSpec::float("threshold", 0.01..=1.0).default(0.5).help("overlap at which two detections match"))
        .option(
            OptionSpec::choice("classes", &[("apart", "only detections of one class match"), ("together", "all may match")])
                .default("apart")
                .help("whether classes are merged separately"),
        )
        .example("read in.mp4 ! tiles 640x360 ! infer centerface ! save small-faces.jsonl", "faces of a crowd")
        .example("read in.mp4 ! tiles 320x320 whole=no merge=nms metric=iou ! infer centerface ! draw ! write out.mp4", "tiles alone")
}

#[derive(Clone, Copy, Debug)]
struct TilesPlan {
    size: (u32, u32),
    overlap: f64,
    whole: bool,
    merge: MergeOptions,
}

impl TilesPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let merge = MergeOptions {
            rule: if options.choice("merge") == "nms" { MergeRule::Suppress } else { MergeRule::Merge },
            metric: if options.choice("metric") == "iou" { MatchMetric::Iou } else { MatchMetric::Ios },
            threshold: options.float("threshold") as f32,
            by_class: options.choice("classes") == "apart",
        };
        let plan = Self { size: options.size("size"), overlap: options.float("overlap"), whole: options.switch("whole"), merge };
        if plan.size.0.min(plan.size.1) < 16 {
            return Err(ConfigError::at("size", "a tile has at least 16 pixels per side").help("such as `tiles 640x640`"));
        }
        Ok(plan)
    }

    /// The tiles of a frame of this size, row by row; `None` if there are too many.
    fn tiles(&self, width: u32, height: u32) -> Option<Vec<BBox>> {
        let (across, down) = (starts(width, self.size.0, self.overlap), starts(height, self.size.1, self.overlap));
        if across.len().saturating_mul(down.len()) > MAX_TILES {
            return None;
        }
        let tile = |x: u32, y: u32| {
            let (right, bottom) = ((x + self.size.0).min(width), (y + self.size.1).min(height));
            BBox::from_xyxy(x as f32, y as f32, right as f32, bottom as f32)
        };
        Some(down.iter().flat_map(|y| across.iter().map(move |x| tile(*x, *y))).collect())
    }
}

/// Start positions of tiles along a side; the last tile ends at the frame's edge.
fn starts(side: u32, tile: u32, overlap: f64) -> Vec<u32> {
    let Some(last) = side.checked_sub(tile).filter(|last| *last > 0) else { return vec![0] };
    let step = tile - (((f64::from(tile) * overlap) as u32).min(tile - 1));
    (0..last).step_by(step as usize).chain(std::iter::once(last)).collect()
}

impl StagePlan for TilesPlan {
    fn changes_pixels(&self) -> bool {
        false
    }

    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        if let Some((width, height)) = input.size {
            self.tiles(width, height).ok_or_else(|| too_many(width, height))?;
        }
        Ok(Some(EdgeFormat { parts: Some(PartFormat::Tiles), ..input.clone() }))
    }

    /// The next model reads the frame's pixels, so the source must keep them.
    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Tiles { plan: *self, last: None, parts: None })]))
    }
}

fn too_many(width: u32, height: u32) -> StageError {
    let message = format!("a frame of {width}x{height} has more than {MAX_TILES} such tiles; give larger ones or less overlap");
    StageError::new(framerail_pipeline::ErrorKind::Usage, message)
}

struct Tiles {
    plan: TilesPlan,
    /// Those of the last frame size.
    last: Option<((u32, u32), FrameParts)>,
    parts: Option<Counter>,
}

impl Stage for Tiles {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.parts = Some(context.counter("parts"));
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let size = (item.frame.width, item.frame.height);
        let parts = match self.last.take().filter(|(known, _)| *known == size) {
            Some((_, parts)) => parts,
            None => self.plan.parts(size)?,
        };
        if let Some(counter) = &self.parts {
            counter.add(parts.parts.len() as u64);
        }
        item.attachments.insert(parts.clone());
        self.last = Some((size, parts));
        out.push(item.into())?;
        Ok(Flow::More)
    }
}

impl TilesPlan {
    fn parts(&self, (width, height): (u32, u32)) -> Result<FrameParts, StageError> {
        let mut areas = self.tiles(width, height).ok_or_else(|| too_many(width, height))?;
        if self.whole && areas.len() > 1 {
            areas.push(BBox::from_xyxy(0.0, 0.0, width as f32, height as f32));
        }
        let parts = areas.into_iter().map(|area| Part::new(area, PartOf::Frame)).collect();
        Ok(FrameParts { parts, kept: Vec::new(), merge: Some(self.merge) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_frame_in_one_size() {
        assert_eq!(starts(1000, 512, 0.2), [0, 410, 488]);
        assert_eq!(starts(512, 512, 0.2), [0]);
        assert_eq!(starts(100, 512, 0.2), [0]);
        assert_eq!(starts(1024, 512, 0.0), [0, 512]);
        for (side, tile, overlap) in [(1920, 640, 0.2), (777, 100, 0.5), (33, 16, 0.9), (65, 64, 0.0)] {
            let starts = starts(side, tile, overlap);
            assert!(starts.windows(2).all(|pair| pair[1] > pair[0] && pair[1] <= pair[0] + tile), "{starts:?}");
            assert_eq!(starts.last().map(|last| last + tile), Some(side));
        }
        let plan = TilesPlan { size: (512, 512), overlap: 0.2, whole: true, merge: MergeOptions::default() };
        let parts = plan.parts((1000, 300)).expect("few").parts;
        assert_eq!(parts.len(), 4);
        assert_eq!(parts[1].area, BBox::from_xyxy(410.0, 0.0, 922.0, 300.0));
        assert_eq!(parts[3].area, BBox::from_xyxy(0.0, 0.0, 1000.0, 300.0));
        assert_eq!(plan.parts((400, 300)).expect("one").parts.len(), 1, "the only tile is the whole frame");
        let tiny = TilesPlan { size: (16, 16), overlap: 0.9, ..plan };
        assert!(tiny.parts((8000, 8000)).is_err());
    }
}
