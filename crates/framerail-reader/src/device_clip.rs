//! Frames of a file by their number, in the memory of a CUDA card.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use framerail_core::{DeviceSurface, Pts, StreamInfo};
use framerail_cuda::DevicePool;
use framerail_media::{
    Input, InputOptions, KeyframeIndex, ProbeEffort, SideStreams,
    facts::{FactsReader, PacketFacts},
};

use crate::{
    ReaderError,
    device::{DeviceOptions, check, engines, setup, upright},
    device_pieces::{CopySurfaces, DevicePieces, DeviceSetup},
    packets::{PacketReader, StreamPacket},
    parallel::{MakeDecoder, ParallelDecoder},
    piece::{Piece, PiecePacket},
};

/// Bytes of surfaces that a clip keeps for the next request.
const KEEP_BYTES: usize = 256 << 20;

/// A frame of a clip.
#[derive(Clone, Debug)]
pub struct ClipFrame {
    /// Its number, in presentation order from 0.
    pub number: usize,
    /// Presentation time in ticks of the stream.
    pub pts: Pts,
    /// What was made of the picture. Frames asked for twice share it.
    pub surface: Arc<dyn DeviceSurface>,
    /// Whether the bitstream had errors here.
    pub has_errors: bool,
}

/// A file whose frames are read by their number.
///
/// A request visits each group of pictures once, spread over the card's engines; packets that nothing refers to are left out,
/// and only the pictures asked for leave the decoder.
pub struct DeviceClip {
    input: Input,
    info: StreamInfo,
    index: KeyframeIndex,
    /// Places of packets in presentation order.
    shown: Vec<usize>,
    decoder: ParallelDecoder<DevicePieces>,
    next_piece: u64,
}

impl DeviceClip {
    /// Opens a file and learns where its frames are: from the container's index where that is exact, else by reading every packet once.
    ///
    /// # Errors
    /// `NotOnDevice` when the card cannot decode it, `OutOfRange` when its packets state no presentation times; else as
    /// [`Input::open`] and `Cuda`.
    pub fn open(options: &InputOptions, device: &DeviceOptions) -> Result<Self, ReaderError> {
        let options = InputOptions { side_streams: SideStreams::None, probe: ProbeEffort::Header, ..options.clone() };
        let mut input = Input::open(&options)?;
        let (codec, coded) = check(&input, &device.device)?;
        let (index, hidden) = match input.container_index()? {
            Some(index) => (index, BTreeSet::new()),
            None => (KeyframeIndex::scan(&options)?, hidden_packets(&options)?),
        };
        let info = upright(&input, options.rotation);
        let shown = presentation_order(&index, &hidden).ok_or_else(|| ReaderError::OutOfRange {
            source_name: info.source.clone(),
            reason: "its packets state no presentation times, or the same twice, so frames have no number; read it in sequence".into(),
        })?;
        let failed = |error| ReaderError::Cuda { source_name: info.source.clone(), error };
        let make = match &device.make {
            Some(make) => Arc::clone(make),
            None => Arc::new(CopySurfaces::new(DevicePool::new(&device.device, KEEP_BYTES).map_err(failed)?)),
        };
        let setup: Arc<DeviceSetup> = setup(&device.device, codec, &input, options.rotation, make)?;
        let decoders = device.decoders.unwrap_or_else(|| engines(&device.device, codec, coded.bits()) + 1);
        let make: MakeDecoder<DevicePieces> = Arc::new(move || DevicePieces::new(&setup));
        Ok(Self { input, info, index, shown, decoder: ParallelDecoder::new(decoders, usize::MAX, make), next_piece: 0 })
    }

    /// The stream, as its header describes it.
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// Frames.
    pub fn len(&self) -> usize {
        self.shown.len()
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// Presentation time of a frame, in ticks of the stream.
    pub fn pts(&self, number: usize) -> Option<Pts> {
        self.index.packets.get(*self.shown.get(number)?)?.pts.map(Pts)
    }

    /// Frames by their numbers, in the order asked, duplicates allowed.
    ///
    /// # Errors
    /// `OutOfRange` for a number that is not there; `Media`, `Cuda`. The clip is of no use after an error of the card.
    pub fn frames(&mut self, numbers: &[usize]) -> Result<Vec<ClipFrame>, ReaderError> {
        let mut groups: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
        for number in numbers {
            let place = *self.shown.get(*number).ok_or_else(|| self.out_of_range(*number))?;
            groups.entry(self.start_of(place)).or_default().insert(place, *number);
        }
        for (start, wanted) in &groups {
            let piece = self.piece(*start, wanted)?;
            self.decoder.submit(piece);
        }
        let mut found = HashMap::new();
        while let Some(tagged) = self.decoder.next_picture()? {
            found.insert(tagged.tag, tagged.picture);
        }
        let frame = |number: &usize| {
            let place = self.shown.get(*number).copied().unwrap_or_default();
            let pts = self.pts(*number).unwrap_or(Pts(0));
            let picture = found.get(&(place as i64)).ok_or_else(|| ReaderError::OutOfRange {
                source_name: self.info.source.clone(),
                reason: format!("frame {number} at PTS {} did not come out of the decoder", pts.0),
            })?;
            Ok(ClipFrame { number: *number, pts, surface: Arc::clone(&picture.surface), has_errors: picture.has_errors })
        };
        numbers.iter().map(frame).collect()
    }

    fn out_of_range(&self, number: usize) -> ReaderError {
        let reason = format!("frame {number} was asked for, there are {}, numbered from 0", self.shown.len());
        ReaderError::OutOfRange { source_name: self.info.source.clone(), reason }
    }

    /// Place of the keyframe from which the packet at a place decodes. Leading pictures need the keyframe before theirs.
    fn start_of(&self, place: usize) -> usize {
        let pts = self.index.packets.get(place).and_then(|packet| packet.pts);
        let before = self.index.packets.get(..=place).unwrap_or_default().iter().enumerate().rev();
        let mut keyframes = before.filter(|(_, packet)| packet.is_keyframe);
        keyframes.find(|(_, packet)| packet.pts <= pts).map_or(0, |(start, _)| start)
    }

    /// The packets that the wanted pictures of one keyframe need.
    fn piece(&mut self, start: usize, wanted: &BTreeMap<usize, usize>) -> Result<Piece, ReaderError> {
        let last = wanted.keys().next_back().copied().unwrap_or(start);
        let mut place = start;
        self.input.seek_packet(&self.index, start)?;
        let mut facts = FactsReader::new(self.input.parameters());
        let mut packets = Vec::with_capacity(last - start + 1);
        while place <= last {
            let Some(packet) = self.input.next_packet()? else { break };
            let found = facts.as_mut().map_or(PacketFacts::UNKNOWN, |facts| facts.read(&packet));
            let is_shown = wanted.contains_key(&place);
            if is_shown || !found.is_disposable() {
                packets.push(PiecePacket { packet, facts: found, tag: place as i64, is_shown });
            }
            place += 1;
        }
        self.next_piece += 1;
        Ok(Piece { number: self.next_piece - 1, packets })
    }
}

/// Places of packets in presentation order; `None` when times are missing or doubled.
fn presentation_order(index: &KeyframeIndex, hidden: &BTreeSet<usize>) -> Option<Vec<usize>> {
    let timed = index.packets.iter().enumerate().filter(|(place, _)| !hidden.contains(place));
    let mut order: Vec<(i64, usize)> = timed.map(|(place, packet)| Some((packet.pts?, place))).collect::<Option<_>>()?;
    order.sort_unstable();
    let distinct = order.windows(2).all(|pair| pair[0].0 < pair[1].0);
    distinct.then(|| order.into_iter().map(|(_, place)| place).collect())
}

/// Places of packets whose pictures are never shown (VP8's alternate references).
fn hidden_packets(options: &InputOptions) -> Result<BTreeSet<usize>, ReaderError> {
    let mut packets = PacketReader::new(Input::open(options)?);
    let (mut hidden, mut place) = (BTreeSet::new(), 0);
    while let Some(packet) = packets.next_packet()? {
        if let StreamPacket::Video(packet) = packet {
            if !packet.facts.is_shown {
                hidden.insert(place);
            }
            place += 1;
        }
    }
    Ok(hidden)
}
