//! The `sample` stage: keeps some of the frames, by count or by time.

use std::{collections::HashMap, sync::Arc};

use framerail_core::{Frame, Rational, StreamId, StreamInfo};
use framerail_pipeline::{
    ConfigError, Counter, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, OptionSpec, Options, PlanError, Registry, RegistryError,
    Stage, StageContext, StageError, StagePlan, StageSpec, StreamEnd, Work,
};

use super::link::input_of;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| Selection::new(options).map(|plan| Box::new(SamplePlan::new(plan)) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("sample", "keeps some of the frames, by count or by time")
        .other_names(["skip", "fps", "framerate", "decimate", "videorate"])
        .details(
            "every=N keeps frames 0, N, 2N and so on of each stream. fps=F keeps, for each time k/F after the stream's first frame, the \
             frame shown at that time, and none twice: a stream slower than F passes completely. Timestamps are unchanged. Skipped frames \
             are counted as frames_skipped.",
        )
        .option(OptionSpec::integer("every", 1..=1_000_000).unit("frames").help("keep every Nth frame"))
        .option(OptionSpec::rate("fps").unit("frames/s").help("keep at most this many frames per second"))
        .option(OptionSpec::integer("start", 0..=i64::MAX).default(0).unit("frames").help(
            "skip this many frames at the start of each \
                                                                                           stream",
        ))
        .option(OptionSpec::integer("count", 1..=i64::MAX).unit("frames").help("keep at most this many frames of each stream"))
        .example("read in.mp4 ! sample fps=2 ! infer centerface ! save boxes.jsonl", "faces twice a second")
        .example("read in.mp4 ! sample every=10 count=100 ! frames stills", "100 stills, ten frames apart")
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rhythm {
    Every(u64),
    Rate(Rational),
}

/// Which frames of a stream are kept.
#[derive(Clone, Copy, Debug)]
struct Selection {
    rhythm: Rhythm,
    start: u64,
    count: Option<u64>,
}

impl Selection {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let frames = |name| options.optional_integer(name).and_then(|count| u64::try_from(count).ok());
        let rhythm = match (frames("every"), options.optional_rate("fps")) {
            (Some(_), Some(_)) => return Err(ConfigError::at("fps", "every and fps are both given").help("leave one out")),
            (Some(every), None) => Rhythm::Every(every),
            (None, Some(rate)) => Rhythm::Rate(rate),
            (None, None) if options.is_given("start") || options.is_given("count") => Rhythm::Every(1),
            (None, None) => {
                let help = "write `sample every=10` for one frame of ten, or `sample fps=2` for two a second";
                return Err(ConfigError::new("neither every nor fps is given").help(help));
            }
        };
        Ok(Self { rhythm, start: frames("start").unwrap_or(0), count: frames("count") })
    }

    /// The output rate.
    fn rate(&self, rate: Rational) -> Rational {
        match self.rhythm {
            Rhythm::Every(every) => divided(rate, every).unwrap_or(rate),
            Rhythm::Rate(wanted) if wanted.as_f64() < rate.as_f64() => wanted,
            Rhythm::Rate(_) => rate,
        }
    }

    /// The number of output frames.
    fn frames(&self, info: &StreamInfo) -> Option<u64> {
        let frames = info.frames_estimate?.saturating_sub(self.start);
        let kept = match self.rhythm {
            Rhythm::Every(every) => frames.div_ceil(every),
            Rhythm::Rate(wanted) => {
                let rate = info.frame_rate.filter(|rate| rate.is_positive())?;
                let share = (wanted.as_f64() / rate.as_f64()).min(1.0);
                (frames as f64 * share).ceil() as u64
            }
        };
        Some(self.count.map_or(kept, |count| kept.min(count)))
    }

    fn of_stream(&self, info: &StreamInfo) -> StreamInfo {
        StreamInfo { frame_rate: info.frame_rate.map(|rate| self.rate(rate)), frames_estimate: self.frames(info), ..info.clone() }
    }
}

/// A rate divided by an integer, in lowest terms.
fn divided(rate: Rational, by: u64) -> Option<Rational> {
    let den = rate.den.checked_mul(i64::try_from(by).ok()?)?;
    let (mut a, mut b) = (rate.num.unsigned_abs(), den.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let common = i64::try_from(a).ok().filter(|common| *common > 0)?;
    Rational::new(rate.num / common, den / common)
}

struct SamplePlan {
    selection: Selection,
    one_stream: bool,
}

impl SamplePlan {
    fn new(selection: Selection) -> Self {
        Self { selection, one_stream: false }
    }
}

impl StagePlan for SamplePlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let mut output = input_of(input)?.clone();
        self.one_stream = output.streams == Some(1);
        output.frame_rate = output.frame_rate.map(|rate| self.selection.rate(rate));
        Ok(Some(output))
    }

    fn reads_pixels(&self) -> bool {
        false
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let sample = Sample { selection: self.selection, one_stream: self.one_stream, streams: HashMap::new(), skipped: None };
        Ok(Work::Stages(vec![Box::new(sample)]))
    }
}

/// Position in a stream.
#[derive(Default)]
struct Progress {
    seen: u64,
    kept: u64,
    instants: Option<Instants>,
    /// The frame on screen until the next one arrives, and its distance in ticks to the previous one.
    on_screen: Option<(FrameItem, Option<i64>)>,
}

struct Sample {
    selection: Selection,
    one_stream: bool,
    streams: HashMap<StreamId, Progress>,
    skipped: Option<Counter>,
}

impl Stage for Sample {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.skipped = Some(context.counter("frames_skipped"));
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let stream = item.frame.stream;
        let progress = self.streams.entry(stream).or_default();
        progress.seen += 1;
        if progress.seen <= self.selection.start || is_complete(progress, &self.selection) {
            self.skip();
        } else {
            match self.selection.rhythm {
                Rhythm::Every(every) => {
                    let wanted = (progress.seen - self.selection.start - 1).is_multiple_of(every);
                    self.decide(item, wanted, out)?;
                }
                Rhythm::Rate(rate) => self.by_time(item, rate, out)?,
            }
        }
        self.end_when_complete(stream, out)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match item {
            Item::StreamStart(info) => out.push(Item::StreamStart(Arc::new(self.selection.of_stream(&info))))?,
            Item::StreamEnd(end) => {
                self.last_of(end.id, out)?;
                self.streams.remove(&end.id);
                out.push(Item::StreamEnd(end))?;
            }
            other => out.push(other)?,
        }
        Ok(Flow::More)
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        let mut open: Vec<StreamId> = self.streams.keys().copied().collect();
        open.sort();
        open.into_iter().try_for_each(|id| self.last_of(id, out))
    }
}

fn is_complete(progress: &Progress, selection: &Selection) -> bool {
    selection.count.is_some_and(|count| progress.kept >= count)
}

impl Sample {
    fn skip(&self) {
        if let Some(skipped) = &self.skipped {
            skipped.add(1);
        }
    }

    fn decide(&mut self, item: FrameItem, wanted: bool, out: &mut dyn Emitter) -> Result<(), StageError> {
        let progress = self.streams.entry(item.frame.stream).or_default();
        if !wanted || is_complete(progress, &self.selection) {
            self.skip();
            return Ok(());
        }
        progress.kept += 1;
        Ok(out.push(item.into())?)
    }

    /// Whether a frame is kept is known when the next one replaces it on screen.
    fn by_time(&mut self, item: FrameItem, rate: Rational, out: &mut dyn Emitter) -> Result<(), StageError> {
        let progress = self.streams.entry(item.frame.stream).or_default();
        let instants = progress.instants.get_or_insert_with(|| Instants::new(&item.frame, rate));
        let next = item.frame.pts.0;
        let before = progress.on_screen.as_ref().map(|(shown, _)| next.saturating_sub(shown.frame.pts.0));
        if let Some((shown, _)) = progress.on_screen.replace((item, before)) {
            let wanted = instants.keep(shown.frame.pts.0, next);
            self.decide(shown, wanted, out)?;
        }
        Ok(())
    }

    /// A stream's last frame stays on screen for its duration, or for that of the previous one.
    fn last_of(&mut self, stream: StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        let Some(progress) = self.streams.get_mut(&stream) else { return Ok(()) };
        let (Some((shown, before)), Some(instants)) = (progress.on_screen.take(), &mut progress.instants) else { return Ok(()) };
        let ticks = shown.frame.duration.or(before).unwrap_or(1).max(1);
        let wanted = instants.keep_last(shown.frame.pts.0, ticks);
        self.decide(shown, wanted, out)
    }

    /// With a single stream, no more frames are needed after the last one.
    fn end_when_complete(&mut self, stream: StreamId, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let complete = self.streams.get(&stream).is_some_and(|progress| is_complete(progress, &self.selection));
        if !(self.one_stream && complete) {
            return Ok(Flow::More);
        }
        if self.streams.remove(&stream).is_some_and(|progress| progress.on_screen.is_some()) {
            self.skip();
        }
        out.push(Item::StreamEnd(StreamEnd { id: stream, ended_early: None }))?;
        Ok(Flow::Done)
    }
}

/// Times k/rate, k from 0, after a stream's first frame. Computed in integers, so that long streams do not drift.
#[derive(Clone, Copy, Debug)]
struct Instants {
    rate: Rational,
    base: Rational,
    first: i64,
    last_kept: Option<i64>,
}

impl Instants {
    fn new(frame: &Frame, rate: Rational) -> Self {
        Self { rate, base: frame.time_base.ratio(), first: frame.pts.0, last_kept: None }
    }

    /// Whether a frame that is on screen from one time to another, in ticks, is kept.
    fn keep(&mut self, from: i64, until: i64) -> bool {
        // By rounding, frames of a slightly slower stream can fall short of an instant.
        let is_slow = || self.is_period(until, from) && self.last_kept.is_some_and(|last| self.is_period(from, last));
        let wanted = self.before(until) > self.before(from) || is_slow();
        if wanted {
            self.last_kept = Some(from);
        }
        wanted
    }

    /// The same for a stream's last frame. Rounded up, its ticks must not reach the next instant.
    fn keep_last(&mut self, from: i64, ticks: i64) -> bool {
        let rounding = i64::from(self.is_rounded() && ticks > 1);
        self.keep(from, from.saturating_add(ticks - rounding))
    }

    /// Containers round times to whole ticks, often milliseconds. Coarser ticks are the frames' own.
    fn is_rounded(&self) -> bool {
        i128::from(self.base.num) * 1000 <= i128::from(self.base.den)
    }

    /// Number of instants before a time. Half a tick of tolerance assigns an instant to the intended frame.
    fn before(&self, time: i64) -> i128 {
        let doubled = 2 * (i128::from(time) - i128::from(self.first)) - i128::from(self.is_rounded());
        let num = doubled.saturating_mul(i128::from(self.base.num)).saturating_mul(i128::from(self.rate.num));
        let den = (2 * i128::from(self.base.den)).saturating_mul(i128::from(self.rate.den));
        // Rounded up.
        -(-num).div_euclid(den.max(1))
    }

    /// Whether two times differ by the distance of instants, within rounding.
    fn is_period(&self, late: i64, early: i64) -> bool {
        let ticks = i128::from(late) - i128::from(early) + i128::from(self.is_rounded());
        let num = ticks.saturating_mul(i128::from(self.base.num)).saturating_mul(i128::from(self.rate.num));
        num >= i128::from(self.base.den).saturating_mul(i128::from(self.rate.den))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(num: i64, den: i64) -> Rational {
        Rational::new(num, den).expect("a denominator")
    }

    /// The kept ones of frames with these times in ticks; the last one stays on screen as long as the previous one.
    fn kept(times: &[i64], base: Rational, rate: Rational) -> Vec<usize> {
        let mut instants = Instants { rate, base, first: times[0], last_kept: None };
        let last = times.len() - 1;
        let kept = times.windows(2).enumerate().filter(|(_, pair)| instants.keep(pair[0], pair[1])).map(|(index, _)| index);
        let mut kept: Vec<usize> = kept.collect();
        if instants.keep_last(times[last], times[last] - times[last - 1]) {
            kept.push(last);
        }
        kept
    }

    #[test]
    fn the_frame_on_screen_at_each_instant_is_kept() {
        let tenths: Vec<i64> = (0..10).map(|frame| 7 + frame).collect();
        assert_eq!(kept(&tenths, ratio(1, 10), ratio(5, 1)), [0, 2, 4, 6, 8]);
        assert_eq!(kept(&tenths, ratio(1, 10), ratio(3, 1)), [0, 3, 6]);
        assert_eq!(kept(&tenths, ratio(1, 10), ratio(4, 1)), [0, 2, 5, 7]);
        // A still frame of one second between others is output once.
        assert_eq!(kept(&[0, 1, 2, 12, 13, 14], ratio(1, 10), ratio(5, 1)), [0, 2, 3, 5]);
    }

    #[test]
    fn a_slower_stream_passes_whole_and_rounded_times_do_no_harm() {
        for rate in [ratio(30_000, 1001), ratio(30, 1), ratio(60, 1)] {
            let millis: Vec<i64> = (0..1000).map(|frame| (f64::from(frame) * 1001.0 / 30.0).round() as i64).collect();
            assert_eq!(kept(&millis, ratio(1, 1000), rate).len(), 1000, "{rate}");
        }
        let millis: Vec<i64> = (0..300).map(|frame| (f64::from(frame) * 1000.0 / 30.0).round() as i64).collect();
        let every_second: Vec<usize> = (0..300).step_by(2).collect();
        assert_eq!(kept(&millis, ratio(1, 1000), ratio(15, 1)), every_second);
    }

    #[test]
    fn rates_and_counts_follow() {
        let selection = |rhythm| Selection { rhythm, start: 0, count: None };
        assert_eq!(selection(Rhythm::Every(3)).rate(ratio(30_000, 1001)), ratio(10_000, 1001));
        assert_eq!(selection(Rhythm::Rate(ratio(5, 1))).rate(ratio(25, 1)), ratio(5, 1));
        assert_eq!(selection(Rhythm::Rate(ratio(50, 1))).rate(ratio(25, 1)), ratio(25, 1));
    }
}
