//! The `mosaic` stage: many streams in one frame.

mod board;
mod grid;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use framerail_core::{Frame, PixelFormat, Pts, Rational, StreamId, StreamInfo, TimeBase};
use framerail_pipeline::{
    Arrival, Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OptionSpec, Options, PlanError, Registry,
    RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, StreamEnd, Work,
};

use self::{
    board::{Board, Shown},
    grid::Grid,
};
use super::link::{host_frames, note_reads};
use crate::typeface::Typeface;

/// Live frames of a stream that wait for the next output frame, to even out irregular arrival.
const WAITING: usize = 2;
/// Maximum time between checks of the input.
const NAP: Duration = Duration::from_millis(5);
/// Maximum number of output frames made at once after a pause.
const MOST_BEHIND: u64 = 4;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| Ok(Box::new(MosaicPlan::new(options)) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("mosaic", "shows many streams side by side in one frame")
        .other_names(["grid", "compositor"])
        .details(
            "Outputs one stream with size= and fps=. Each stream has a cell, in the order in which streams begin; frames keep their \
             aspect ratio. The grid is the one in which 16:9 frames are largest, and changes when streams are added. A cell shows \
             `waiting`, `no \
             signal` (over the last frame, darkened) or `ended`; the cell of a stream that has ended is given to the next new one.\n\n\
             Of live and paced streams each output frame shows the current frame; frames that exceed fps are skipped and counted. Files \
             are read concurrently, in step, and each output frame shows the frames of its time, counted from the start of \
             each file, until the last file ends.\n\n\
             Audio, subtitles and detections are left out: put `draw` or `text` before it. Works in host memory; frames on a GPU are \
             downloaded first, which is shown.",
        )
        .option(OptionSpec::size("size").default("1920x1080").help("size of the output frames"))
        .option(OptionSpec::rate("fps").default("30").unit("frames/s").help("output frames per second"))
        .option(
            OptionSpec::integer("columns", 1..=64).default("auto").or_word("auto", "by the number of streams").help("cells side by side"),
        )
        .option(OptionSpec::integer("cells", 1..=1024).help("minimum number of cells; default: as many as there are streams"))
        .option(OptionSpec::integer("gap", 0..=200).default(4).unit("pixels").help("distance between cells"))
        .option(OptionSpec::switch("labels").default("yes").help("whether each cell shows the name of its stream"))
        .option(OptionSpec::float("label_size", 0.5..=20.0).default(2.5).unit("percent").help("font size, relative to the output's height"))
        .option(OptionSpec::path("font").help("TrueType or OpenType file; default: the included font, then the system's"))
        .option(OptionSpec::color("background").default("#202020").help("colour between and around the frames"))
        .option(OptionSpec::time("stale").default("2s").help("live and paced streams: time without a frame until `no signal` is shown"))
        .example("read a.mp4 b.mp4 c.mp4 d.mp4 ! mosaic ! write wall.mp4", "four files beside each other")
        .example("read 'cams/*.mp4' realtime=yes ! mosaic size=1280x720 fps=15 ! write wall.m3u8", "all cameras on one page")
        .example("read a.mp4 b.mp4 ! infer centerface ! draw ! mosaic columns=2 ! write boxes.mp4", "with boxes")
}

#[derive(Clone)]
struct MosaicPlan {
    size: (u32, u32),
    rate: Rational,
    columns: Option<u32>,
    cells: usize,
    gap: u32,
    /// Relative to the output's height.
    label: Option<f32>,
    font: Option<PathBuf>,
    face: Option<Typeface>,
    background: [u8; 3],
    stale: Duration,
    is_live: bool,
}

impl MosaicPlan {
    fn new(options: &Options) -> Self {
        let number = |name: &str| options.optional_integer(name).and_then(|number| u32::try_from(number).ok());
        Self {
            size: options.size("size"),
            rate: options.rate("fps"),
            columns: number("columns"),
            cells: number("cells").map_or(0, |cells| cells as usize),
            gap: number("gap").unwrap_or(0),
            label: options.switch("labels").then(|| options.float("label_size") as f32 / 100.0),
            font: options.optional_path("font").map(PathBuf::from),
            face: None,
            background: options.color("background"),
            stale: options.time("stale"),
            is_live: false,
        }
    }

    fn grid(&self, cells: usize) -> Grid {
        Grid::new(cells.max(self.cells), self.columns, self.size, self.gap)
    }
}

impl StagePlan for MosaicPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = host_frames(input)?;
        note_reads(&context.files, self.font.as_deref())?;
        self.face = Some(Typeface::new(self.font.as_deref())?);
        self.cells = self.cells.max(input.streams.unwrap_or(0));
        self.is_live = input.is_live;
        Ok(Some(EdgeFormat {
            streams: Some(1),
            size: Some(self.size),
            pixel_format: Some(PixelFormat::Yuv420p),
            frame_rate: Some(self.rate),
            is_live: input.is_live,
            ..EdgeFormat::default()
        }))
    }

    fn wants_streams_in_step(&self) -> bool {
        true
    }

    fn note(&self) -> Option<String> {
        let (columns, rows) = self.grid(1).columns_and_rows();
        Some(format!("{columns} x {rows} cells"))
    }

    fn into_work(mut self: Box<Self>) -> Result<Work, StageError> {
        let face = self.face.take().ok_or_else(|| StageError::new(ErrorKind::Internal, "the stage was not linked"))?;
        let board = Board::new(self.size, self.background, self.label, face)?;
        let grid = self.grid(1);
        let cells = (0..self.cells).map(|_| Cell::default()).collect();
        Ok(Work::Stages(vec![Box::new(Mosaic {
            plan: *self,
            board,
            grid,
            cells,
            is_laid_out: false,
            out: None,
            made: 0,
            origin: None,
            counters: None,
        })]))
    }
}

/// The last content of a cell, so that it is painted only when it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Painted {
    #[default]
    Nothing,
    Image,
    Word(&'static str),
}

#[derive(Default)]
struct Cell {
    /// The stream, its name, and the time of its first frame, which is shown at `begins`.
    stream: Option<StreamId>,
    name: String,
    first_secs: Option<f64>,
    begins: f64,
    /// Frames to be shown, by their times in the mosaic.
    waiting: VecDeque<(f64, FrameItem)>,
    shown: Option<Frame>,
    last_came: Option<Instant>,
    /// End time of the last frame.
    end_secs: f64,
    has_ended: bool,
    painted: Painted,
}

struct Counters {
    images: Counter,
    shown: Counter,
    skipped: Counter,
    missed: Counter,
    context: StageContext,
}

struct Mosaic {
    plan: MosaicPlan,
    board: Board,
    grid: Grid,
    cells: Vec<Cell>,
    is_laid_out: bool,
    /// The output stream, once it has begun.
    out: Option<Arc<StreamInfo>>,
    /// Number of the next output frame.
    made: u64,
    /// When output frame 0 was due.
    origin: Option<Instant>,
    counters: Option<Counters>,
}

impl Stage for Mosaic {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters {
            images: context.counter("pictures_made"),
            shown: context.counter("frames_shown"),
            skipped: context.counter("frames_skipped"),
            missed: context.counter("pictures_missed"),
            context: context.clone(),
        });
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        if let Some(counters) = &self.counters {
            counters.context.count_delivered(item.frame.stream, item.arrival);
        }
        let is_live = self.plan.is_live;
        let Some(cell) = self.cells.iter_mut().find(|cell| cell.stream == Some(item.frame.stream)) else { return Ok(Flow::More) };
        let secs = item.frame.seconds();
        let at = cell.begins + secs - *cell.first_secs.get_or_insert(secs);
        cell.last_came = Some(Instant::now());
        cell.end_secs = at + item.frame.duration.map_or(0.0, |ticks| item.frame.time_base.seconds(ticks));
        cell.waiting.push_back((at, item));
        if is_live && cell.waiting.len() > WAITING {
            cell.waiting.pop_front();
            self.counters.iter().for_each(|counters| counters.skipped.add(1));
        }
        self.advance(out)?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match item {
            Item::StreamStart(info) => self.begin(&info),
            Item::StreamEnd(end) => {
                if let Some(cell) = self.cells.iter_mut().find(|cell| cell.stream == Some(end.id)) {
                    (cell.has_ended, cell.stream) = (true, None);
                }
                if let Some(counters) = &self.counters {
                    counters.context.stream_taken(end.id);
                }
                self.advance(out)?;
            }
            _ => {}
        }
        Ok(Flow::More)
    }

    fn has_work_under_way(&self) -> bool {
        // The clock continues when no stream delivers a frame.
        self.plan.is_live && self.out.is_some()
    }

    fn idle(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let wait = self.due(self.made).map_or(NAP, |due| due.saturating_duration_since(Instant::now()));
        thread::sleep(wait.min(NAP));
        self.advance(out)?;
        Ok(Flow::More)
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.cells.iter_mut().filter(|cell| cell.stream.is_some()).for_each(|cell| (cell.has_ended, cell.stream) = (true, None));
        if self.plan.is_live {
            // The last frame is shown once.
            if self.cells.iter().any(|cell| !cell.waiting.is_empty()) {
                self.make(out)?;
            }
        } else {
            self.advance(out)?;
        }
        if let Some(info) = self.out.take() {
            if let Some(counters) = &self.counters {
                counters.context.end_made_stream(info.id);
            }
            out.push(Item::StreamEnd(StreamEnd { id: info.id, ended_early: None }))?;
        }
        Ok(())
    }
}

impl Mosaic {
    /// Assigns a cell to a stream: an unused one, else that of an ended stream, else a new one.
    fn begin(&mut self, info: &StreamInfo) {
        let free = self.cells.iter().position(|cell| cell.stream.is_none() && !cell.has_ended);
        let ended = || self.cells.iter().position(|cell| cell.has_ended && cell.waiting.is_empty());
        let place = free.or_else(ended).unwrap_or(self.cells.len());
        if place == self.cells.len() {
            self.cells.push(Cell::default());
        }
        if self.cells.len() > self.grid.cells() {
            self.grid = self.plan.grid(self.cells.len());
            self.is_laid_out = false;
        }
        if let Some(cell) = self.cells.get_mut(place) {
            let begins = self.made as f64 / self.plan.rate.as_f64();
            *cell = Cell { stream: Some(info.id), name: info.name.clone(), begins, ..Cell::default() };
        }
    }

    /// When an output frame is due, for live streams.
    fn due(&self, number: u64) -> Option<Instant> {
        let secs = number as f64 / self.plan.rate.as_f64();
        self.origin.map(|origin| origin + Duration::from_secs_f64(secs))
    }

    /// Makes the output frames that can be made now.
    fn advance(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        if self.plan.is_live {
            let now = Instant::now();
            self.origin.get_or_insert(now);
            let behind = self.origin.map_or(0, |origin| (now.duration_since(origin).as_secs_f64() * self.plan.rate.as_f64()) as u64);
            if behind > self.made + MOST_BEHIND {
                self.counters.iter().for_each(|counters| counters.missed.add(behind - self.made));
                self.made = behind;
            }
            while self.due(self.made).is_some_and(|due| due <= now) {
                self.make(out)?;
            }
            return Ok(());
        }
        while self.is_known(self.made as f64 / self.plan.rate.as_f64()) {
            self.make(out)?;
        }
        Ok(())
    }

    /// Whether all frames of files up to a time have arrived, and some are left to show.
    fn is_known(&self, secs: f64) -> bool {
        // Times are compared with the rounding of containers.
        let is_through = |cell: &Cell| cell.stream.is_none() || cell.waiting.back().is_some_and(|(at, _)| *at > secs + 1e-4);
        let is_left = |cell: &Cell| !cell.waiting.is_empty() || cell.end_secs > secs + 1e-4;
        self.cells.iter().all(is_through) && self.cells.iter().any(is_left)
    }

    /// Makes the next output frame.
    fn make(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        if !self.is_laid_out {
            self.board.clear()?;
            self.cells.iter_mut().for_each(|cell| cell.painted = Painted::Nothing);
            self.is_laid_out = true;
        }
        let secs = self.made as f64 / self.plan.rate.as_f64();
        for number in 0..self.grid.cells() {
            self.paint(number, secs)?;
        }
        let info = match &self.out {
            Some(info) => Arc::clone(info),
            None => self.begin_output(out)?,
        };
        let mut frame = Frame::of(self.board.image()?);
        frame.stream = info.id;
        frame.index = self.made;
        frame.pts = Pts(i64::try_from(self.made).unwrap_or(i64::MAX));
        (frame.time_base, frame.duration, frame.color) = (info.time_base, Some(1), info.color);
        let mut item = FrameItem::new(frame);
        if self.plan.is_live {
            let now = Instant::now();
            item.arrival = Some(Arrival { at: self.due(self.made).unwrap_or(now), wall: SystemTime::now(), budget: None, may_drop: false });
        }
        self.made += 1;
        if let Some(counters) = &self.counters {
            counters.images.add(1);
            counters.context.count_made(info.id);
        }
        Ok(out.push(item.into())?)
    }

    fn paint(&mut self, number: usize, secs: f64) -> Result<(), StageError> {
        let Some(cell) = self.cells.get_mut(number) else {
            return Ok(());
        };
        let mut is_new = false;
        let takes = |cell: &Cell| {
            let is_due = cell.waiting.front().is_some_and(|(at, _)| *at <= secs + 1e-4);
            if self.plan.is_live { cell.waiting.front().is_some() } else { is_due }
        };
        while takes(cell) {
            if let Some((_, item)) = cell.waiting.pop_front() {
                let (counter, counters) = (usize::from(is_new), &self.counters);
                counters.iter().for_each(|counters| [&counters.shown, &counters.skipped][counter].add(1));
                cell.shown = Some(item.frame);
                is_new = true;
            }
            if self.plan.is_live {
                break;
            }
        }
        let is_over = cell.has_ended && cell.waiting.is_empty() && (self.plan.is_live || cell.end_secs <= secs + 1e-4);
        let is_stale = self.plan.is_live && cell.last_came.is_some_and(|came| came.elapsed() > self.plan.stale);
        let wanted = match &cell.shown {
            _ if is_over => Painted::Word("ended"),
            None => Painted::Word("waiting"),
            Some(_) if is_stale => Painted::Word("no signal"),
            Some(_) => Painted::Image,
        };
        if wanted == cell.painted && !(is_new && wanted == Painted::Image) {
            return Ok(());
        }
        cell.painted = wanted;
        let shown = match (wanted, &cell.shown) {
            (Painted::Word(word), frame) => Shown::Word(word, frame.as_ref()),
            (_, Some(frame)) => Shown::Image(frame),
            (_, None) => Shown::Word("waiting", None),
        };
        self.board.paint(&self.grid, number, shown, &cell.name)
    }

    fn begin_output(&mut self, out: &mut dyn Emitter) -> Result<Arc<StreamInfo>, StageError> {
        /// Stream numbers from sources start at 0 and stay far below this.
        static NEXT: AtomicU32 = AtomicU32::new(u32::MAX);
        let (width, height) = self.plan.size;
        let name = self.counters.as_ref().map_or("mosaic", |counters| counters.context.name()).to_owned();
        let rate = self.plan.rate;
        let time_base = TimeBase::new(rate.den, rate.num)
            .ok_or_else(|| StageError::new(ErrorKind::Internal, "the frame rate of a mosaic is above zero"))?;
        let blank = Frame::of(self.board.image()?);
        let info = Arc::new(StreamInfo {
            id: StreamId(NEXT.fetch_sub(1, Ordering::Relaxed)),
            source: name.as_str().into(),
            name,
            codec: "rawvideo".into(),
            container: "rawvideo".into(),
            width,
            height,
            pixel_format: PixelFormat::Yuv420p,
            sample_aspect_ratio: None,
            color: self.board.color(),
            hdr: framerail_core::HdrMetadata::default(),
            field_order: blank.field_order,
            rotation: blank.rotation,
            time_base,
            frame_rate: Some(rate),
            start_offset_micros: 0,
            duration_secs: None,
            frames_estimate: None,
            bit_rate: None,
            metadata: Vec::new(),
            not_delivered: Vec::new(),
            side_streams: Vec::new(),
        });
        if let Some(counters) = &self.counters {
            counters.context.make_stream(&info);
        }
        self.out = Some(Arc::clone(&info));
        out.push(Item::StreamStart(Arc::clone(&info)))?;
        Ok(info)
    }
}
