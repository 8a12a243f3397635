//! Fixed areas that `blur` hides, or that select the detections to hide.

use std::{collections::HashMap, sync::Arc};

use framerail_core::{Detection, Frame, RunFiles, StreamId, StreamInfo};
use framerail_pipeline::{ConfigError, OptionSpec, Options, StageContext, StageError, StageSpec};
use framerail_vision::{
    Mask,
    zones::{Anchor, Outline},
};

use crate::stages::areas::{self, Area, AreaStreams, Areas};

/// Sets of areas that are cached: one per frame size and per combination of active areas.
const KEPT_SETS: usize = 32;

/// The purpose of areas.
#[derive(Clone, Copy)]
enum Use {
    Also,
    Inside,
    Except,
}

impl Use {
    const ALL: [Use; 3] = [Use::Also, Use::Inside, Use::Except];

    fn option(self) -> &'static str {
        match self {
            Use::Also => "also",
            Use::Inside => "only_inside",
            Use::Except => "except",
        }
    }
}

/// Adds the options to the stage's.
pub(super) fn with_options(spec: StageSpec) -> StageSpec {
    spec.option(OptionSpec::text(Use::Also.option()).help(format!("areas to hide in every frame: {}", areas::SYNTAX)))
        .option(OptionSpec::text(Use::Inside.option()).help("areas; only detections whose middle lies in one are hidden"))
        .option(
            OptionSpec::text(Use::Except.option())
                .help("areas that stay visible: detections whose middle lies in one are not hidden, and also= leaves them out"),
        )
}

/// The areas as given.
#[derive(Clone, Debug, Default)]
pub(super) struct BlurAreas {
    /// In the order of [`Use::ALL`].
    by_use: [Areas; 3],
}

impl BlurAreas {
    pub(super) fn new(options: &Options) -> Result<Self, ConfigError> {
        let mut areas = Self::default();
        for purpose in Use::ALL {
            if let Some(text) = options.optional_text(purpose.option()) {
                areas.by_use[purpose as usize] = Areas::parse(text).map_err(|error| ConfigError::at(purpose.option(), error))?;
            }
        }
        Ok(areas)
    }

    pub(super) fn load(&mut self, size: Option<(u32, u32)>, files: &RunFiles) -> Result<(), StageError> {
        self.by_use.iter_mut().try_for_each(|areas| areas.load(size, files))
    }

    /// Whether frames without detections are changed too.
    pub(super) fn hide_without_detections(&self) -> bool {
        self.by_use[Use::Also as usize].is_given()
    }

    pub(super) fn is_any(&self) -> bool {
        self.by_use.iter().any(Areas::is_given)
    }

    pub(super) fn follow_streams(&self) -> bool {
        self.by_use.iter().any(Areas::follow_streams)
    }
}

/// The active areas for a frame size and time.
#[derive(Debug, Default)]
pub(super) struct AreaSet {
    pub(super) hidden: Vec<Mask>,
    /// Areas to hide that lie outside of the frame.
    pub(super) outside: u64,
    inside: Vec<Outline>,
    except: Vec<Outline>,
}

impl AreaSet {
    fn of(active: [Vec<&Area>; 3], (width, height): (u32, u32)) -> Self {
        let [also, inside, except] = active;
        let mask = |area: &&Area| Mask::of_polygon(&area.corners(width, height), width, height);
        let outlines = |areas: &[&Area]| areas.iter().map(|area| area.outline(width, height, Anchor::Center)).collect();
        let masks: Vec<Mask> = also.iter().filter_map(mask).collect();
        let visible: Vec<Mask> = except.iter().filter_map(mask).collect();
        let outside = (also.len() - masks.len()) as u64;
        let meets = |mask: &Mask| visible.iter().any(|visible| visible.region.meets(&mask.region));
        let cut = |mask: Mask| if meets(&mask) { mask.without(&visible) } else { Some(mask) };
        let hidden = masks.into_iter().filter_map(cut).collect();
        Self { hidden, outside, inside: outlines(&inside), except: outlines(&except) }
    }

    /// Whether a detection is hidden. One with a non-finite box is, so that it is counted as invalid.
    pub(super) fn hides(&self, found: &Detection) -> bool {
        let is_in = |outlines: &[Outline]| outlines.iter().any(|outline| outline.holds(&found.bbox));
        !found.bbox.is_finite() || ((self.inside.is_empty() || is_in(&self.inside)) && !is_in(&self.except))
    }
}

/// Frame size and active areas.
type SetKey = ((u32, u32), Vec<bool>);

/// Tracks streams and returns the active areas of a frame.
#[derive(Debug, Default)]
pub(super) struct FrameAreas {
    areas: BlurAreas,
    streams: AreaStreams,
    /// By frame size and active areas.
    sets: HashMap<SetKey, Arc<AreaSet>>,
}

impl FrameAreas {
    /// `None` without areas.
    pub(super) fn new(areas: &BlurAreas) -> Option<Self> {
        areas.is_any().then(|| Self { areas: areas.clone(), ..Self::default() })
    }

    pub(super) fn begin(&mut self, info: &StreamInfo) {
        self.streams.begin(info);
    }

    pub(super) fn end(&mut self, id: StreamId) {
        self.streams.end(id);
    }

    pub(super) fn of(&mut self, frame: &Frame) -> Arc<AreaSet> {
        let all = self.areas.by_use.iter().flat_map(|areas| &areas.list);
        let key = ((frame.width, frame.height), all.map(|area| self.streams.is_for(area, frame)).collect());
        if let Some(set) = self.sets.get(&key) {
            return Arc::clone(set);
        }
        if self.sets.len() >= KEPT_SETS {
            self.sets.clear();
        }
        let active = Use::ALL.map(|purpose| {
            let areas = &self.areas.by_use[purpose as usize].list;
            areas.iter().filter(|area| self.streams.is_for(area, frame)).collect()
        });
        let set = Arc::new(AreaSet::of(active, key.0));
        self.sets.insert(key, Arc::clone(&set));
        set
    }

    /// Reports areas whose streams never appeared.
    pub(super) fn finish(&self, context: &StageContext) {
        for (area, stream) in self.areas.by_use.iter().flat_map(|areas| self.streams.missing(areas)) {
            context.notice(format_args!("the area `{area}` is for stream `{stream}`, which did not come"));
        }
    }
}
