//! Joins the parts of one video, packet by packet, with the audio and subtitles of the original source.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use framerail_core::{CancelToken, Packet, SideStream, StreamInfo};

use crate::{
    Ending, Input, InputOptions, Leftover, MediaError, OutputFile, OutputRules, SidePayload, SideStreams, WriteReport, WriterOptions,
    av::{self, AvPacket},
    encoder::VideoTrack,
    muxer::{Muxer, Place},
    packet::PacketKind,
    parameters::Parameters,
    side_tracks::SideTracks,
    sides::SidePackets,
};

/// The parts to join.
pub struct Join<'a> {
    /// Video files on the source's clock (`keep_start`), in order. Each starts with a keyframe and decodes independently.
    pub pieces: &'a [PathBuf],
    /// The source of tags, chapters, audio and subtitles.
    pub source: InputOptions,
    /// Selects side streams of the source.
    pub keeps: &'a dyn Fn(&SideStream) -> bool,
    /// Cancels the join; no file is left then.
    pub cancel: CancelToken,
}

impl Join<'_> {
    /// Writes the joined file without decoding frames. Its packets are those of the parts, with the times that they would have in a
    /// file written in one go.
    ///
    /// # Errors
    /// `Unsupported` for parts that do not fit together, and the errors of reading and writing.
    pub fn write(&self, path: &Path, options: &WriterOptions) -> Result<WriteReport, MediaError> {
        av::init();
        let mut pieces = Pieces::open(self)?;
        let mut source = SideSource::open(self)?;
        let info = source.info(&pieces.info);
        let mut muxer = Muxer::new(path, options)?;
        let track = VideoTrack { parameters: pieces.parameters.clone(), time_base: info.time_base };
        let mut sides = SideTracks::plan(muxer.format(), options, &info, &track)?;
        let rules =
            OutputRules { overwrite: options.overwrite, files: options.files.clone(), leftover: Leftover::Remove, syncs_later: false };
        let file = OutputFile::create(path, &rules)?;
        let place = Place::File { path: file.working_path(), is_regular: file.is_regular() };
        muxer.start(&place, options, &info, &track, &sides.layout())?;
        let mut frames = 0;
        while let Some(packet) = pieces.next()? {
            let secs = av::timestamp(packet.dts).map(|ticks| info.time_base.seconds(ticks));
            while let Some((side, packet)) = source.before(secs)? {
                write_side(&mut muxer, &mut sides, side, packet)?;
            }
            muxer.write_video(packet)?;
            frames += 1;
        }
        while let Some((side, packet)) = source.before(None)? {
            write_side(&mut muxer, &mut sides, side, packet)?;
        }
        for (side, packet) in sides.finish()? {
            muxer.write_side(side, packet)?;
        }
        muxer.finish()?;
        let committed = file.complete(Ending::Whole)?;
        Ok(WriteReport {
            codec: info.codec.clone(),
            pixel_format: info.pixel_format.to_string(),
            frames,
            packets_copied: sides.counts.copied,
            packets_encoded: sides.counts.encoded,
            packets_damaged: sides.damaged() + muxer.refused(),
            packets_skipped: sides.counts.skipped,
            bytes: committed.bytes,
            timestamps_rounded: muxer.times().rounded(),
            timestamps_repaired: muxer.times().repaired(),
            warnings: sides.warnings.iter().cloned().chain(sides.late_warnings()).chain(muxer.gap_notes()).collect(),
            path: committed.path,
            elsewhere: committed.elsewhere,
            ..WriteReport::default()
        })
    }
}

fn write_side(muxer: &mut Muxer, sides: &mut SideTracks, side: usize, packet: AvPacket) -> Result<(), MediaError> {
    for packet in sides.take(side, packet)? {
        muxer.write_side(side, packet)?;
    }
    Ok(())
}

/// The packets of all parts, in order.
struct Pieces<'a> {
    join: &'a Join<'a>,
    current: Input,
    next: usize,
    /// Stream information of the first part.
    info: StreamInfo,
    parameters: Parameters,
    /// The next packet must be a keyframe.
    is_at_start: bool,
}

impl<'a> Pieces<'a> {
    fn open(join: &'a Join<'a>) -> Result<Self, MediaError> {
        let Some(first) = join.pieces.first() else {
            return Err(MediaError::Unsupported { what: "joining nothing".into(), reason: "give the pieces of a video, in order".into() });
        };
        let current = open_piece(first, &join.cancel)?;
        let (info, parameters) = (current.info().clone(), current.parameters().clone());
        Ok(Self { join, current, next: 1, info, parameters, is_at_start: true })
    }

    fn next(&mut self) -> Result<Option<AvPacket>, MediaError> {
        loop {
            if let Some(packet) = self.current.next_packet()? {
                if std::mem::take(&mut self.is_at_start) && !packet.is_keyframe() {
                    return Err(self.unfit("does not start with a keyframe"));
                }
                let mut packet = packet.packet;
                packet.time_base = av::rational(self.info.time_base.ratio());
                packet.pos = -1;
                return Ok(Some(packet));
            }
            if let Some(reason) = &self.current.damage().ended_early {
                return Err(self.unfit(&format!("is not complete: {reason}")));
            }
            let Some(path) = self.join.pieces.get(self.next) else { return Ok(None) };
            self.current = open_piece(path, &self.join.cancel)?;
            self.next += 1;
            self.is_at_start = true;
            let (first, this) = (&self.info, self.current.info());
            if first.time_base != this.time_base {
                return Err(self.unfit("has another time base than the first"));
            }
            if (first.width, first.height, &first.codec) != (this.width, this.height, &this.codec)
                || self.parameters.extradata() != self.current.parameters().extradata()
            {
                return Err(self.unfit("was encoded with other settings than the first"));
            }
        }
    }

    /// An error for the current part, which does not fit.
    fn unfit(&self, reason: &str) -> MediaError {
        let what = format!("joining {}", self.current.info().source);
        MediaError::Unsupported { what, reason: format!("it {reason}; write every piece with the same options and keep_start=yes") }
    }
}

fn open_piece(path: &Path, cancel: &CancelToken) -> Result<Input, MediaError> {
    let source = path.to_string_lossy().into_owned();
    Input::open(&InputOptions { side_streams: SideStreams::None, cancel: cancel.clone(), ..InputOptions::new(source) })
}

/// The side packets of the source.
struct SideSource {
    input: Input,
    packets: SidePackets,
    /// For each side stream of the source, its index among the kept ones.
    numbers: Vec<Option<usize>>,
    kept: Vec<SideStream>,
    waiting: VecDeque<Packet>,
    is_at_end: bool,
}

impl SideSource {
    fn open(join: &Join<'_>) -> Result<Self, MediaError> {
        let options = InputOptions { cancel: join.cancel.clone(), side_streams: SideStreams::AudioAndSubtitles, ..join.source.clone() };
        let input = Input::open(&options)?;
        let (mut numbers, mut kept) = (Vec::new(), Vec::new());
        for side in &input.info().side_streams {
            let is_kept = (join.keeps)(side);
            numbers.push(is_kept.then_some(kept.len()));
            if is_kept {
                kept.push(side.clone());
            }
        }
        let packets = SidePackets::new(&input);
        // Without side streams, nothing needs to be read.
        let is_at_end = kept.is_empty();
        Ok(Self { input, packets, numbers, kept, waiting: VecDeque::new(), is_at_end })
    }

    /// Stream information as a single run would have written it: frame properties from the parts, the rest from the source.
    fn info(&self, piece: &StreamInfo) -> StreamInfo {
        let source = self.input.info();
        StreamInfo {
            side_streams: self.kept.clone(),
            metadata: source.metadata.clone(),
            start_offset_micros: source.start_offset_micros,
            source: source.source.clone(),
            name: source.name.clone(),
            ..piece.clone()
        }
    }

    /// Returns the next packet at or before this time; at the end, any packet.
    fn before(&mut self, secs: Option<f64>) -> Result<Option<(usize, AvPacket)>, MediaError> {
        loop {
            if let Some(packet) = self.waiting.front() {
                let own = packet.pts.map(|pts| packet.time_base.seconds(pts.0));
                if own.zip(secs).is_some_and(|(own, secs)| own > secs) {
                    return Ok(None);
                }
            }
            if let Some(packet) = self.waiting.pop_front() {
                let Some(payload) = packet.payload.downcast_ref::<SidePayload>() else { continue };
                return Ok(Some((packet.side_stream, payload.at(&packet)?)));
            }
            if self.is_at_end {
                return Ok(None);
            }
            match self.input.next_packet()? {
                None => self.is_at_end = true,
                Some(packet) => {
                    let PacketKind::Side(side) = packet.kind else { continue };
                    let Some(number) = self.numbers.get(side).copied().flatten() else { continue };
                    if let Some(mut packet) = self.packets.select(side, packet) {
                        packet.side_stream = number;
                        self.waiting.push_back(packet);
                    }
                }
            }
        }
    }
}
