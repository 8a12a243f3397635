//! Index of the frames of a video: number, time and packet of each, and where decoding can start.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use framerail_core::{FramePool, Pts, Rational, TimeBase};
use framerail_media::{
    Decoded, Decoder, Input, InputOptions, KeyframeIndex, MediaError, MediaItem, MediaReader, PacketEntry, PacketKind,
    facts::{FactsReader, PacketFacts, RandomAccess},
};

use crate::{FrameTime, IndexSource, ReaderError, video::Fault};

/// Number of packets within which the first displayed frame is found.
const FIRST_PACKETS: usize = 16;

/// Position of a frame whose packet is unknown.
pub(crate) const NOWHERE: usize = usize::MAX;

/// How frames can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// From a random access point: decoded frames carry the timestamps of the index.
    ByTime,
    /// Only from the start, by counting frames.
    Counted,
}

/// Time and packet of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FramePlace {
    pub(crate) pts: i64,
    /// Duration of its packet in ticks; 0 when unknown.
    pub(crate) duration: i64,
    /// Position of its packet in file order.
    pub(crate) place: usize,
    pub(crate) is_keyframe: bool,
}

/// All frames of a video, in presentation order.
pub(crate) struct FrameIndex {
    pub(crate) source: IndexSource,
    pub(crate) access: Access,
    pub(crate) packets: KeyframeIndex,
    pub(crate) frames: Vec<FramePlace>,
    /// Positions of packets at which decoding may start, ascending; always includes the first packet.
    pub(crate) starts: Vec<usize>,
    times: Vec<FrameTime>,
    /// Frame number of each packet.
    numbers: Vec<usize>,
}

/// Properties of a packet found by a scan.
#[derive(Clone, Copy)]
struct Noted {
    facts: PacketFacts,
    is_shown: bool,
}

/// Result of a scan.
struct Scan {
    packets: KeyframeIndex,
    noted: Vec<Noted>,
    /// Whether the timestamps identify frames reliably.
    is_sound: bool,
    /// Whether decoders need the whole stream because its headers change midway.
    changes_headers: bool,
}

impl FrameIndex {
    /// Builds the exact index of a freshly opened input and leaves it at its first packet. `options` reopen it when more must be read.
    pub(crate) fn make(input: &mut Input, options: &InputOptions, pool: &FramePool) -> Result<Self, MediaError> {
        if let Some(packets) = input.container_index()?.filter(|packets| is_whole(packets, options)) {
            let shown = (0..packets.packets.len()).collect();
            let first = first_facts(input)?;
            // For codecs whose packets cannot be parsed here, only the start is a reliable random access point.
            let is_read = FactsReader::new(input.parameters()).is_some();
            let starts = if is_read { packets.keyframes().collect() } else { Vec::new() };
            if let Some(index) = Self::of_packets(IndexSource::Container, packets, shown, starts, first, options, pool)? {
                return Ok(index);
            }
        }
        Self::scan(options, pool)
    }

    /// Builds the exact index by reading all packets, or by decoding if that does not suffice.
    pub(crate) fn scan(options: &InputOptions, pool: &FramePool) -> Result<Self, MediaError> {
        let scan = Scan::read(options)?;
        if scan.is_sound && !scan.changes_headers {
            let noted = scan.noted.iter().enumerate();
            let shown = noted.clone().filter(|(_, noted)| noted.is_shown).map(|(place, _)| place).collect();
            let starts = noted.filter(|(_, noted)| noted.facts.random_access.is_exact()).map(|(place, _)| place).collect();
            let first = scan.noted.first().map_or(PacketFacts::UNKNOWN, |noted| noted.facts);
            if let Some(index) = Self::of_packets(IndexSource::Scan, scan.packets, shown, starts, first, options, pool)? {
                return Ok(index);
            }
            return Self::decode(options, pool);
        }
        Self::of_decoded(scan, options, pool)
    }

    /// Builds the index by decoding everything once, for streams whose packets do not identify their frames.
    pub(crate) fn decode(options: &InputOptions, pool: &FramePool) -> Result<Self, MediaError> {
        Self::of_decoded(Scan::read(options)?, options, pool)
    }

    /// Builds the index from packets with correct timestamps; `None` when they turn out to be wrong.
    fn of_packets(
        source: IndexSource,
        packets: KeyframeIndex,
        shown: Vec<usize>,
        starts: Vec<usize>,
        first: PacketFacts,
        options: &InputOptions,
        pool: &FramePool,
    ) -> Result<Option<Self>, MediaError> {
        let entry = |place: &usize| packets.packets.get(*place);
        let place_of = |place: &usize| {
            let packet = entry(place)?;
            Some(FramePlace { pts: packet.pts?, duration: packet.duration, place: *place, is_keyframe: packet.is_keyframe })
        };
        let Some(mut frames) = shown.iter().map(place_of).collect::<Option<Vec<_>>>() else { return Ok(None) };
        frames.sort_unstable_by_key(|frame| frame.pts);
        if frames.windows(2).any(|pair| pair[0].pts == pair[1].pts) {
            return Ok(None);
        }
        let starts = with_first(starts);
        let start_pts = packets.packets.first().and_then(|packet| packet.pts);
        let has_leading = frames.first().is_some_and(|frame| Some(frame.pts) < start_pts);
        if has_leading || !(first.random_access.is_exact() || first == PacketFacts::UNKNOWN) {
            let Some(head) = Head::decode(&packets, &starts, options, pool)? else { return Ok(None) };
            if head.shown.iter().any(|pts| frames.binary_search_by_key(pts, |frame| frame.pts).is_err()) {
                return Ok(None);
            }
            frames.retain(|frame| frame.pts >= head.end || head.shown.contains(&frame.pts));
        }
        Ok(Some(Self::new(source, Access::ByTime, packets, frames, starts)))
    }

    fn of_decoded(scan: Scan, options: &InputOptions, pool: &FramePool) -> Result<Self, MediaError> {
        let mut reader = MediaReader::open(&whole(options), pool)?;
        let mut frames = Vec::new();
        while let Some(item) = reader.next()? {
            if let MediaItem::Frame(frame) = item {
                let duration = frame.duration.unwrap_or(0);
                frames.push(FramePlace { pts: frame.pts.0, duration, place: NOWHERE, is_keyframe: frame.is_keyframe });
            }
        }
        let is_timed = reader.damage().is_timed() && !scan.changes_headers;
        let starts = scan.noted.iter().enumerate().filter(|(_, noted)| noted.facts.random_access.is_exact());
        let starts = with_first(starts.map(|(place, _)| place).collect());
        let mut places: HashMap<i64, usize> = HashMap::new();
        let mut is_distinct = true;
        for (place, packet) in scan.packets.packets.iter().enumerate() {
            if let Some(pts) = packet.pts.filter(|_| scan.noted.get(place).is_some_and(|noted| noted.is_shown)) {
                is_distinct &= places.insert(pts, place).is_none();
            }
        }
        for frame in &mut frames {
            frame.place = places.get(&frame.pts).copied().unwrap_or(NOWHERE);
        }
        let is_found = frames.iter().all(|frame| frame.place != NOWHERE);
        let access = if is_timed && is_distinct && is_found { Access::ByTime } else { Access::Counted };
        Ok(Self::new(IndexSource::Decoded, access, scan.packets, frames, starts))
    }

    /// A better index, after a fault has shown that this one is wrong; `Err` with the fault if it shows something else. A chain of such
    /// repairs ends with [`FrameIndex::counted`].
    pub(crate) fn repaired(self: &std::sync::Arc<Self>, fault: Fault, options: &InputOptions, pool: &FramePool) -> Result<Self, Fault> {
        match fault {
            // The container's tables or a cached index list packets that do not exist.
            Fault::Error(ReaderError::Media(MediaError::Damaged { .. }))
                if matches!(self.source, IndexSource::Container | IndexSource::Cache) =>
            {
                Ok(Self::scan(options, pool)?)
            }
            Fault::IndexWrong if self.source == IndexSource::Decoded => Ok(self.counted()),
            Fault::IndexWrong => Ok(Self::decode(options, pool)?),
            fault => Err(fault),
        }
    }

    /// The same frames, reached from the start only.
    fn counted(self: &std::sync::Arc<Self>) -> Self {
        Self::new(self.source, Access::Counted, self.packets.clone(), self.frames.clone(), vec![0])
    }

    /// Builds an index from the header's constant frame rate; `None` when the header states no rate or length, and the input then stays at
    /// its first packet.
    ///
    /// # Errors
    /// As [`Input::next_packet`]: the first packets determine the first timestamp.
    pub(crate) fn approximate(input: &mut Input) -> Result<Option<Self>, MediaError> {
        if by_rate(input).is_none() {
            return Ok(None);
        }
        // Packets hidden by an edit list come first, and a keyframe may precede frames that are displayed earlier.
        let (mut start, mut after) = (None::<i64>, 0);
        while after < FIRST_PACKETS
            && let Some(packet) = input.next_packet()?
        {
            if packet.kind == PacketKind::Video && !packet.is_discarded() {
                let time = packet.pts().or(packet.dts());
                start = [start, time].into_iter().flatten().min();
                after += 1;
            }
        }
        Ok(Self::by_rate(input, start.unwrap_or(0)))
    }

    fn by_rate(input: &Input, start: i64) -> Option<Self> {
        let info = input.info();
        let (rate, count) = by_rate(input)?;
        let step = 1.0 / rate.as_f64();
        let at = |number: usize| start.saturating_add(info.time_base.ticks(number as f64 * step));
        let frame = |number| FramePlace { pts: at(number), duration: at(number + 1) - at(number), place: NOWHERE, is_keyframe: false };
        let packets = KeyframeIndex { packets: Vec::new(), time_base: info.time_base, damage: Default::default() };
        let frames = (0..count).map(frame).collect();
        Some(Self::new(IndexSource::Approximate, Access::Counted, packets, frames, vec![0]))
    }

    pub(crate) fn new(source: IndexSource, access: Access, packets: KeyframeIndex, frames: Vec<FramePlace>, starts: Vec<usize>) -> Self {
        let times = times(&frames, packets.time_base);
        let mut numbers = vec![NOWHERE; packets.packets.len()];
        for (number, frame) in frames.iter().enumerate() {
            if let Some(slot) = numbers.get_mut(frame.place) {
                *slot = number;
            }
        }
        Self { source, access, packets, frames, starts, times, numbers }
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn times(&self) -> &[FrameTime] {
        &self.times
    }

    pub(crate) fn time_base(&self) -> TimeBase {
        self.packets.time_base
    }

    /// Position of a frame's packet.
    pub(crate) fn place(&self, number: usize) -> Option<usize> {
        self.frames.get(number).map(|frame| frame.place).filter(|place| *place != NOWHERE)
    }

    /// The frame of a packet, if it shows one.
    pub(crate) fn number_at(&self, place: usize) -> Option<usize> {
        self.numbers.get(place).copied().filter(|number| *number != NOWHERE)
    }

    /// The frame with a given timestamp.
    pub(crate) fn number_of(&self, pts: i64) -> Option<usize> {
        self.frames.binary_search_by_key(&pts, |frame| frame.pts).ok()
    }

    /// Number of frames before a timestamp.
    pub(crate) fn frames_before(&self, pts: i64) -> usize {
        self.frames.partition_point(|frame| frame.pts < pts)
    }

    pub(crate) fn packet(&self, place: usize) -> Option<&PacketEntry> {
        self.packets.packets.get(place)
    }

    /// Position of the random access point from which the packet at `place` decodes. Leading frames need the previous one.
    pub(crate) fn start_of(&self, place: usize, inexact: &BTreeSet<usize>) -> usize {
        let pts = self.packet(place).and_then(|packet| packet.pts);
        let before = self.starts.partition_point(|start| *start <= place);
        let mut starts = self.starts.get(..before).unwrap_or_default().iter().rev();
        let is_before = |start: usize| self.packet(start).is_some_and(|packet| packet.pts.is_some() && packet.pts <= pts);
        starts.find(|start| !inexact.contains(*start) && is_before(**start)).copied().unwrap_or(0)
    }
}

impl FrameIndex {
    /// Number of frames to decode for rising frame numbers, each GOP from its start.
    pub(crate) fn frames_decoded_afresh(&self, numbers: &[usize]) -> usize {
        let mut groups: BTreeMap<usize, usize> = BTreeMap::new();
        for place in numbers.iter().filter_map(|number| self.place(*number)) {
            let last = groups.entry(self.start_of(place, &BTreeSet::new())).or_insert(place);
            *last = place.max(*last);
        }
        groups.iter().map(|(start, last)| last + 1 - start).sum()
    }

    /// Number of GOPs that hold these frames, and the maximum number of wanted frames in one.
    pub(crate) fn groups_of(&self, numbers: &[usize]) -> (usize, usize) {
        let mut groups: BTreeMap<usize, usize> = BTreeMap::new();
        for place in numbers.iter().filter_map(|number| self.place(*number)) {
            *groups.entry(self.start_of(place, &BTreeSet::new())).or_default() += 1;
        }
        (groups.len(), groups.values().copied().max().unwrap_or(0))
    }

    /// Number of frames to decode for rising frame numbers, from the first to the last without a break.
    pub(crate) fn frames_between(&self, numbers: &[usize]) -> usize {
        let places = || numbers.iter().filter_map(|number| self.place(*number));
        let first = places().map(|place| self.start_of(place, &BTreeSet::new())).min();
        first.zip(places().max()).map_or(0, |(first, last)| last + 1 - first)
    }
}

impl Scan {
    fn read(options: &InputOptions) -> Result<Self, MediaError> {
        let mut input = Input::open(&whole(options))?;
        let mut facts = FactsReader::new(input.parameters());
        let (mut noted, mut changes_headers, mut is_corrupt) = (Vec::new(), false, false);
        let packets = KeyframeIndex::read_each(&mut input, |packet| {
            let facts = facts.as_mut().map_or(PacketFacts::UNKNOWN, |facts| facts.read(packet));
            changes_headers |= packet.changes_codec() || packet.new_extradata().is_some();
            is_corrupt |= packet.is_corrupt();
            noted.push(Noted { facts, is_shown: facts.is_shown && !packet.is_discarded() });
        })?;
        let damage = &packets.damage;
        let is_sound = !is_corrupt && damage.packets_corrupt + damage.packets_dropped + damage.container_errors == 0;
        let timed = noted.iter().zip(&packets.packets).all(|(noted, packet)| !noted.is_shown || packet.pts.is_some());
        Ok(Self { is_sound: is_sound && timed, packets, noted, changes_headers })
    }
}

/// The frames that the beginning of a stream actually shows: leading frames there may lack their references.
struct Head {
    shown: BTreeSet<i64>,
    /// From this timestamp on, the packets' timestamps apply.
    end: i64,
}

impl Head {
    fn decode(packets: &KeyframeIndex, starts: &[usize], options: &InputOptions, pool: &FramePool) -> Result<Option<Self>, MediaError> {
        let mut input = Input::open(&whole(options))?;
        let mut decoder = Decoder::open(&input, pool)?;
        let second = starts.iter().find(|start| **start > 0).and_then(|start| packets.packets.get(*start)?.pts);
        let end = second.unwrap_or(i64::MAX);
        let mut shown = BTreeSet::new();
        loop {
            match decoder.receive()? {
                Decoded::Frame(frame) if frame.pts.0 >= end => break,
                Decoded::Frame(frame) => drop(shown.insert(frame.pts.0)),
                Decoded::End => break,
                Decoded::NeedsPacket => match input.next_packet()? {
                    Some(packet) if packet.kind == PacketKind::Video => decoder.send(Some(&packet))?,
                    Some(_) => {}
                    None => decoder.send(None)?,
                },
            }
        }
        Ok(decoder.damage().is_timed().then_some(Self { shown, end }))
    }
}

/// Frame rate and count by the header. A packet count includes packets hidden by an edit list, a duration does not.
fn by_rate(input: &Input) -> Option<(Rational, usize)> {
    let info = input.info();
    let rate = info.frame_rate.filter(|rate| rate.is_positive())?;
    let by_time = info.duration_secs.map(|secs| (secs * rate.as_f64()).round() as u64);
    let count = [info.frames_estimate, by_time].into_iter().flatten().min()?;
    Some((rate, usize::try_from(count).ok().filter(|count| *count < 1 << 32)?))
}

/// Options that select a source's whole video.
pub(crate) fn whole(options: &InputOptions) -> InputOptions {
    InputOptions {
        start_secs: None,
        end_secs: None,
        duration_secs: None,
        side_streams: framerail_media::SideStreams::None,
        ..options.clone()
    }
}

fn with_first(mut starts: Vec<usize>) -> Vec<usize> {
    if starts.first() != Some(&0) {
        starts.insert(0, 0);
    }
    starts
}

/// Checks that the file contains all listed packets; truncated files do not.
fn is_whole(packets: &KeyframeIndex, options: &InputOptions) -> bool {
    let source = options.source.reveal();
    let path = source.strip_prefix("file:").unwrap_or(source);
    let Ok(found) = std::fs::metadata(path) else { return true };
    let end = |packet: &PacketEntry| packet.position.map_or(0, |position| position.saturating_add(packet.size_bytes.into()));
    packets.packets.iter().map(end).max().is_none_or(|end| end <= found.len())
}

/// Properties of the first packet of a freshly opened input.
fn first_facts(input: &mut Input) -> Result<PacketFacts, MediaError> {
    let Some(mut facts) = FactsReader::new(input.parameters()) else { return Ok(PacketFacts::UNKNOWN) };
    let Some(first) = input.next_packet()? else { return Ok(PacketFacts::UNKNOWN) };
    let found = facts.read(&first);
    input.unread(first);
    Ok(found)
}

/// Times in seconds; each frame lasts until the next one.
fn times(frames: &[FramePlace], time_base: TimeBase) -> Vec<FrameTime> {
    let next = frames.iter().skip(1).map(|frame| Some(frame.pts)).chain([None]);
    let mut last_ticks = 0;
    let time = |(frame, next): (&FramePlace, Option<i64>)| {
        let ticks = match next {
            Some(next) => next.saturating_sub(frame.pts),
            None if frame.duration > 0 => frame.duration,
            None => last_ticks,
        };
        last_ticks = ticks;
        FrameTime {
            pts: Pts(frame.pts),
            seconds: time_base.seconds(frame.pts),
            duration_secs: time_base.seconds(ticks),
            is_keyframe: frame.is_keyframe,
        }
    };
    frames.iter().zip(next).map(time).collect()
}

/// Whether frames presented from this packet on need nothing before it.
pub(crate) fn is_exact_start(facts: Option<PacketFacts>, place: usize) -> bool {
    place == 0 || facts.is_some_and(|facts| matches!(facts.random_access, RandomAccess::Clean | RandomAccess::OpenGop))
}
