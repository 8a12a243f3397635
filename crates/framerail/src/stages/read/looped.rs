//! A file that is played repeatedly with continuous timestamps.

use std::collections::BTreeMap;

use framerail_core::{Frame, Packet, Pts, StreamInfo};
use framerail_media::{Conversion, Damage, MediaItem};
use framerail_reader::{FrameSource, ReaderError, Reading, SourceStats};

/// How often a source is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounds {
    Times(u64),
    Endless,
}

impl Rounds {
    /// The remaining count after one more round; `None` if there is none.
    fn next(self) -> Option<Self> {
        match self {
            Rounds::Times(left) if left <= 1 => None,
            Rounds::Times(left) => Some(Rounds::Times(left - 1)),
            Rounds::Endless => Some(Rounds::Endless),
        }
    }
}

/// Opens the source again.
pub(super) type Reopen = Box<dyn FnMut() -> Result<Box<dyn FrameSource>, ReaderError> + Send>;

/// Plays a source several times. The first frame of a round follows the last of the previous one without a gap.
pub(super) struct Looped {
    inner: Box<dyn FrameSource>,
    info: StreamInfo,
    reopen: Reopen,
    rounds: Rounds,
    /// Offset of the current round's times, in ticks of the frames.
    shift: i64,
    first: Option<i64>,
    /// The last frame, as delivered.
    last: Option<i64>,
    /// End time of this round's last frame.
    end: i64,
    step: i64,
    next_index: u64,
    first_index: u64,
    /// Latest time of each side stream, now and at the end of the previous round: audio may be longer than the video.
    latest: BTreeMap<usize, i64>,
    before: BTreeMap<usize, i64>,
    /// Of completed rounds.
    damage: Damage,
    conversions: Vec<Conversion>,
    stats: SourceStats,
}

impl Looped {
    pub(super) fn new(inner: Box<dyn FrameSource>, rounds: Rounds, reopen: Reopen) -> Self {
        let mut info = inner.info().clone();
        let times = if let Rounds::Times(times) = rounds { Some(times) } else { None };
        info.frames_estimate = info.frames_estimate.zip(times).map(|(frames, times)| frames.saturating_mul(times));
        info.duration_secs = info.duration_secs.zip(times).map(|(secs, times)| secs * times as f64);
        Self {
            inner,
            info,
            reopen,
            rounds,
            shift: 0,
            first: None,
            last: None,
            end: 0,
            step: 1,
            next_index: 0,
            first_index: 0,
            latest: BTreeMap::new(),
            before: BTreeMap::new(),
            damage: Damage::default(),
            conversions: Vec::new(),
            stats: SourceStats::default(),
        }
    }

    fn frame(&mut self, mut frame: Frame) -> Frame {
        self.first.get_or_insert(frame.pts.0);
        let at = frame.pts.0.saturating_add(self.shift);
        if let Some(last) = self.last.replace(at) {
            self.step = at.saturating_sub(last).max(1);
        }
        self.end = at.saturating_add(frame.duration.filter(|ticks| *ticks > 0).unwrap_or(self.step));
        frame.pts = Pts(at);
        frame.index = frame.index.saturating_add(self.first_index);
        self.next_index = frame.index.saturating_add(1);
        frame
    }

    /// The packet with its time; `None` for one that overlaps the previous round.
    fn packet(&mut self, mut packet: Packet) -> Option<Packet> {
        let shift = self.info.time_base.rescale(self.shift, packet.time_base);
        packet.pts = packet.pts.map(|pts| Pts(pts.0.saturating_add(shift)));
        let side = packet.side_stream;
        if let Some(pts) = packet.pts {
            if self.before.get(&side).is_some_and(|before| pts.0 <= *before) {
                return None;
            }
            let latest = self.latest.entry(side).or_insert(pts.0);
            *latest = pts.0.max(*latest);
        }
        Some(packet)
    }

    /// Begins the next round; `false` if there is none.
    fn go_on(&mut self) -> Result<bool, ReaderError> {
        // An empty source would be reopened forever.
        let Some((rounds, first)) = self.rounds.next().zip(self.first) else { return Ok(false) };
        self.damage = self.damage();
        self.conversions = self.conversions();
        self.stats = self.stats();
        self.inner = (self.reopen)()?;
        self.rounds = rounds;
        self.shift = self.end.saturating_sub(first);
        self.first_index = self.next_index;
        self.before = self.latest.clone();
        Ok(true)
    }
}

impl FrameSource for Looped {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next_item(&mut self) -> Result<Option<MediaItem>, ReaderError> {
        loop {
            match self.inner.next_item()? {
                Some(MediaItem::Frame(frame)) => return Ok(Some(MediaItem::Frame(self.frame(frame)))),
                Some(MediaItem::Packet(packet)) => {
                    if let Some(packet) = self.packet(packet) {
                        return Ok(Some(MediaItem::Packet(packet)));
                    }
                }
                None if self.go_on()? => {}
                None => return Ok(None),
            }
        }
    }

    fn damage(&self) -> Damage {
        self.damage.merged(&self.inner.damage())
    }

    fn conversions(&self) -> Vec<Conversion> {
        self.conversions.iter().cloned().chain(self.inner.conversions()).collect()
    }

    fn stats(&self) -> SourceStats {
        let (past, now) = (self.stats, self.inner.stats());
        SourceStats {
            decoders: past.decoders.max(now.decoders),
            pieces: past.pieces + now.pieces,
            pictures_decoded: past.pictures_decoded + now.pictures_decoded,
            most_waiting: past.most_waiting.max(now.most_waiting),
            frames_on_host: past.frames_on_host + now.frames_on_host,
            traffic: past.traffic.plus(now.traffic),
        }
    }

    fn reading(&self) -> Reading {
        self.inner.reading()
    }

    fn notice(&self) -> Option<&str> {
        self.inner.notice()
    }

    fn on_host(&self) -> Option<(f64, String)> {
        self.inner.on_host()
    }
}
