//! Determines which packets a request needs and reads them; shared by the host and GPUs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use framerail_media::{
    Input, InputPacket, MediaError, PacketKind,
    facts::{FactsReader, PacketFacts},
};

use crate::{
    frame_index::{FrameIndex, is_exact_start},
    piece::{Piece, PiecePacket},
};

/// Gaps of up to this many packets are read and dropped instead of sought over.
const NEAR_PACKETS: usize = 8;

/// Wanted frames that decode from one random access point: packet position of each frame, with its number.
pub(crate) type Wanted = BTreeMap<usize, usize>;

/// Reads the packets of wanted frames.
pub(crate) struct PieceSource {
    input: Input,
    index: Arc<FrameIndex>,
    facts: Option<FactsReader>,
    /// Position of the next packet, if known.
    position: Option<usize>,
    /// Keyframes of the container that turned out not to be exact random access points.
    inexact: BTreeSet<usize>,
    /// Whether decoding last started at an exact random access point, as opposed to the start of a stream without one there.
    is_whole_start: bool,
    /// A packet contained new global headers: decoders that did not process it cannot be used.
    changes_headers: bool,
    next_piece: u64,
    seeks: u64,
    skipped: u64,
}

impl PieceSource {
    /// Reads an input at any position.
    pub(crate) fn new(input: Input, index: Arc<FrameIndex>) -> Self {
        Self {
            input,
            index,
            facts: None,
            position: None,
            inexact: BTreeSet::new(),
            is_whole_start: false,
            changes_headers: false,
            next_piece: 0,
            seeks: 0,
            skipped: 0,
        }
    }

    /// Reads an input that is at its first packet.
    pub(crate) fn at_start(input: Input, index: Arc<FrameIndex>) -> Self {
        let facts = FactsReader::new(input.parameters());
        Self { facts, position: Some(0), ..Self::new(input, index) }
    }

    pub(crate) fn index(&self) -> &Arc<FrameIndex> {
        &self.index
    }

    /// Seeks and skipped packets since the last call.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.seeks), std::mem::take(&mut self.skipped))
    }

    /// Position of the next packet.
    pub(crate) fn position(&self) -> Option<usize> {
        self.position
    }

    /// Position of the random access point from which a frame decodes.
    pub(crate) fn start_of(&self, number: usize) -> usize {
        self.index.place(number).map_or(0, |place| self.index.start_of(place, &self.inexact))
    }

    /// Groups frames by the random access points from which they decode.
    pub(crate) fn groups(&self, numbers: impl IntoIterator<Item = usize>) -> BTreeMap<usize, Wanted> {
        let mut groups: BTreeMap<usize, Wanted> = BTreeMap::new();
        for number in numbers {
            if let Some(place) = self.index.place(number) {
                groups.entry(self.index.start_of(place, &self.inexact)).or_default().insert(place, number);
            }
        }
        groups
    }

    /// Passes on the pieces that the frames need, the longest first, so that parallel decoders finish at about the same time.
    pub(crate) fn pieces<E: From<MediaError>>(
        &mut self,
        numbers: impl IntoIterator<Item = usize>,
        mut submit: impl FnMut(Piece) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut groups: Vec<(usize, Wanted)> = self.groups(numbers).into_iter().collect();
        groups.sort_by_key(|(start, wanted)| span(*start, wanted));
        while let Some((start, wanted)) = groups.pop() {
            match self.piece(start, &wanted)? {
                Some(piece) => submit(piece)?,
                None => groups.extend(self.groups(wanted.into_values())),
            }
        }
        Ok(())
    }

    /// The packets needed for the wanted frames of one random access point; `None` when it is not one, which is recorded.
    pub(crate) fn piece(&mut self, start: usize, wanted: &Wanted) -> Result<Option<Piece>, MediaError> {
        let last = wanted.keys().next_back().copied().unwrap_or(start);
        if !self.go_to(start)? {
            return Ok(None);
        }
        let mut packets = Vec::with_capacity(last.saturating_sub(start) + 1);
        while let Some(place) = self.position.filter(|place| *place <= last) {
            let Some((packet, facts)) = self.next_packet()? else { break };
            let is_shown = wanted.contains_key(&place);
            if is_shown || !self.may_leave_out(facts) || place == start {
                packets.push(PiecePacket { packet, facts, tag: place as i64, is_shown });
            } else {
                self.skipped += 1;
            }
        }
        self.next_piece += 1;
        Ok(Some(Piece { number: self.next_piece - 1, packets }))
    }

    /// Goes to a packet where decoding should start; `false` when decoding cannot start there after all, which is recorded.
    pub(crate) fn go_to(&mut self, start: usize) -> Result<bool, MediaError> {
        let gap = self.position.and_then(|position| start.checked_sub(position));
        if gap.is_none_or(|gap| gap > NEAR_PACKETS) {
            self.position = None;
            self.input.seek_packet(&self.index.packets, start)?;
            self.seeks += 1;
            self.position = Some(start);
            self.facts = FactsReader::new(self.input.parameters());
        }
        while self.position.is_some_and(|position| position < start) {
            if self.next_packet()?.is_none() {
                return Err(self.vanished(start));
            }
        }
        let Some((packet, facts)) = self.next_packet()? else { return Err(self.vanished(start)) };
        let is_known = self.facts.is_some().then_some(facts);
        if !is_exact_start(is_known, start) {
            self.inexact.insert(start);
            return Ok(false);
        }
        self.input.unread(packet);
        self.position = Some(start);
        self.is_whole_start = facts.random_access.is_exact();
        Ok(true)
    }

    /// The next video packet, with properties parsed from its bytes.
    pub(crate) fn next_packet(&mut self) -> Result<Option<(InputPacket, PacketFacts)>, MediaError> {
        while let Some(packet) = self.input.next_packet()? {
            if packet.kind == PacketKind::Video {
                self.position = self.position.map(|position| position + 1);
                self.changes_headers |= packet.changes_codec() || packet.new_extradata().is_some();
                let facts = self.facts.as_mut().map_or(PacketFacts::UNKNOWN, |facts| facts.read(&packet));
                return Ok(Some((packet, facts)));
            }
        }
        self.position = None;
        Ok(None)
    }

    /// Whether decoding last started at an exact random access point, as opposed to the start of a stream without one there.
    pub(crate) fn is_whole_start(&self) -> bool {
        self.is_whole_start
    }

    /// Whether the stream changes its global headers midway, so that it must be decoded from the start.
    pub(crate) fn changes_headers(&self) -> bool {
        self.changes_headers
    }

    /// Whether an unwanted packet may be skipped. When references are missing, decoders use any available data, so nothing is skipped.
    pub(crate) fn may_leave_out(&self, facts: PacketFacts) -> bool {
        self.is_whole_start && facts.is_disposable()
    }

    /// Counts a skipped packet.
    pub(crate) fn count_skipped(&mut self) {
        self.skipped += 1;
    }

    fn vanished(&self, place: usize) -> MediaError {
        let reason = format!("packet {place} of the index is missing from the file; has the file changed?");
        MediaError::Damaged { source_name: self.input.info().source.to_string(), reason }
    }
}

/// Number of packets from a random access point to the last wanted one.
pub(crate) fn span(start: usize, wanted: &Wanted) -> usize {
    wanted.keys().next_back().map_or(0, |last| last.saturating_sub(start) + 1)
}
