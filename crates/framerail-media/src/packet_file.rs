//! Writes compressed packets that the caller keeps to files: as they were read, or as an encoder returned them.

use std::path::{Path, PathBuf};

use framerail_core::{Frame, MediaKind, Packet, StreamInfo};

use crate::{
    Ending, MediaError, SideParameters, SidePayload, WriteReport, WriterOptions, av,
    encoder::{Encoder, VideoTrack},
    muxer::Muxer,
    push::PushPacket,
    side_tracks::{SideLayout, SideTracks},
    video_default::VideoDefault,
    writer::Output,
};

/// Prepares the packets of one stream for files.
pub struct PacketStream {
    way: Way,
    sides: SideTracks,
    /// For each side stream of the input, its index among those in the files.
    places: Vec<Option<usize>>,
    target: PacketTarget,
}

enum Way {
    /// Video packets are copied from this side stream.
    Copy(usize),
    Encode(Box<Encoder>),
}

/// Index of the side stream with the compressed video itself, if the input delivers it.
pub fn video_side(info: &StreamInfo) -> Option<usize> {
    info.side_streams.iter().position(|side| side.kind == MediaKind::Video)
}

impl PacketStream {
    /// Copies video packets as they were read; `info` lists them as a side stream ([`crate::InputOptions::video_packets`]). The name
    /// of `path` chooses the container.
    ///
    /// # Errors
    /// `BadOption` and `Unsupported`, as [`crate::MediaWriter::check`]; `Unsupported` if the input does not deliver its video packets.
    pub fn copy(path: &Path, options: &WriterOptions, info: &StreamInfo) -> Result<Self, MediaError> {
        av::init();
        let packets = video_side(info).and_then(|place| info.side_streams.get(place).map(|side| (place, side)));
        let Some((place, side)) = packets else {
            let reason = "images, and frames made by a program, have no packets to copy; give codec= to encode them";
            return Err(MediaError::Unsupported { what: info.source.to_string(), reason: reason.into() });
        };
        let Some(SideParameters::Stream { parameters, .. }) = side.parameters.downcast_ref::<SideParameters>() else {
            return Err(MediaError::Unsupported { what: info.source.to_string(), reason: "its packets have no parameters".into() });
        };
        // Codec tags are specific to a container.
        let parameters = parameters.changed(|parameters| parameters.codec_tag = 0)?;
        let track = VideoTrack { parameters, time_base: side.time_base };
        Self::new(path, options, info, track, Way::Copy(place))
    }

    /// Encodes frames.
    ///
    /// # Errors
    /// As [`crate::MediaWriter::create`].
    pub fn encode(path: &Path, options: &WriterOptions, info: &StreamInfo) -> Result<Self, MediaError> {
        av::init();
        let muxer = Muxer::new(path, options)?;
        let chosen = VideoDefault::choose(muxer.format(), options, info)?;
        let encoding = WriterOptions { pixel_format: chosen.pixel_format, ..options.clone() };
        let encoder = Encoder::open(&chosen.codec, &encoding, info, &muxer.format().demands())?;
        let track = encoder.track()?;
        Self::new(path, options, info, track, Way::Encode(Box::new(encoder)))
    }

    fn new(path: &Path, options: &WriterOptions, info: &StreamInfo, track: VideoTrack, way: Way) -> Result<Self, MediaError> {
        let muxer = Muxer::new(path, options)?;
        if muxer.format().name() == "hls" {
            let reason = "clips are files; give a name such as clip.mp4".to_owned();
            return Err(MediaError::BadOption { name: "file".into(), reason, nearest: None });
        }
        let (mut kept, mut places) = (StreamInfo { side_streams: Vec::new(), ..info.clone() }, Vec::new());
        for side in &info.side_streams {
            // Chapters and cover images belong to the whole source, not to a clip.
            let is_kept = matches!(side.kind, MediaKind::Audio | MediaKind::Subtitle);
            places.push(is_kept.then_some(kept.side_streams.len()));
            if is_kept {
                kept.side_streams.push(side.clone());
            }
        }
        let sides = SideTracks::plan(muxer.format(), options, &kept, &track)?;
        let target = PacketTarget { options: options.clone(), layout: sides.layout(), warnings: sides.warnings.clone(), info: kept, track };
        Ok(Self { way, sides, places, target })
    }

    /// Differences from the input, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.target.warnings
    }

    /// The target, which opens files for the packets.
    pub fn target(&self) -> &PacketTarget {
        &self.target
    }

    /// Returns the packets encoded from a frame; none if packets are copied.
    ///
    /// # Errors
    /// `Ffmpeg`; `Core` for a device surface.
    pub fn frame(&mut self, frame: &Frame) -> Result<Vec<PushPacket>, MediaError> {
        let Way::Encode(encoder) = &mut self.way else { return Ok(Vec::new()) };
        encoder.send(frame)?;
        received(encoder)
    }

    /// Returns the packets for a side stream's packet: the same, or what the container stores instead.
    ///
    /// # Errors
    /// `Ffmpeg` when an audio encoder fails.
    pub fn packet(&mut self, packet: &Packet) -> Result<Vec<PushPacket>, MediaError> {
        let Some(payload) = packet.payload.downcast_ref::<SidePayload>() else { return Ok(Vec::new()) };
        if matches!(self.way, Way::Copy(place) if place == packet.side_stream) {
            return Ok(vec![PushPacket::of_video(payload.moved(packet)?)]);
        }
        let Some(side) = self.places.get(packet.side_stream).copied().flatten() else { return Ok(Vec::new()) };
        let ready = self.sides.take(side, payload.at(packet)?)?;
        Ok(ready.into_iter().map(|ready| PushPacket::of_side(side, ready)).collect())
    }

    /// Returns the packets that encoders still hold.
    ///
    /// # Errors
    /// `Ffmpeg`.
    pub fn drain(&mut self) -> Result<Vec<PushPacket>, MediaError> {
        let mut packets = match &mut self.way {
            Way::Copy(_) => Vec::new(),
            Way::Encode(encoder) => {
                encoder.send_end()?;
                received(encoder)?
            }
        };
        packets.extend(self.sides.finish()?.into_iter().map(|(side, packet)| PushPacket::of_side(side, packet)));
        Ok(packets)
    }
}

fn received(encoder: &mut Encoder) -> Result<Vec<PushPacket>, MediaError> {
    let mut packets = Vec::new();
    while let Some(packet) = encoder.receive()? {
        packets.push(PushPacket::of_video(packet));
    }
    Ok(packets)
}

/// Properties shared by all files of a stream.
#[derive(Clone)]
pub struct PacketTarget {
    options: WriterOptions,
    info: StreamInfo,
    track: VideoTrack,
    layout: SideLayout,
    warnings: Vec<String>,
}

impl PacketTarget {
    /// Opens a file.
    ///
    /// # Errors
    /// `Exists`, `BadOption`, `Unsupported` if the container does not support the codec, `Io`, `DiskFull`.
    pub fn create(&self, path: &Path) -> Result<PacketFile, MediaError> {
        let mut muxer = Muxer::new(path, &self.options)?;
        let output = Output::create(path, &self.options, &self.info, false)?;
        muxer.start(&output.place(), &self.options, &self.info, &self.track, &self.layout)?;
        Ok(PacketFile { muxer, output, packets: 0 })
    }
}

/// A file for packets, which gets its final name when it is complete.
pub struct PacketFile {
    // Fields are dropped in this order: the muxer closes the file before the file is removed.
    muxer: Muxer,
    output: Output,
    packets: u64,
}

impl PacketFile {
    /// Writes a packet. The first video packet must be a keyframe; the earliest time of all streams becomes zero.
    ///
    /// # Errors
    /// `DiskFull`, `Io`.
    pub fn write(&mut self, packet: &PushPacket) -> Result<(), MediaError> {
        self.packets += 1;
        let bytes = packet.bytes_of()?;
        match packet.side() {
            Some(side) => self.muxer.write_side(side, bytes).map(|_| ()),
            None => self.muxer.write_video(bytes),
        }
    }

    /// The final path of the file.
    pub fn path(&self) -> &Path {
        self.output.path()
    }

    /// Completes the file. If the run was stopped, it does not replace an older file.
    ///
    /// # Errors
    /// `DiskFull`, `Io`, wrapped in `Unfinished` when a usable part is kept.
    pub fn finish_as(mut self, ending: Ending) -> Result<WriteReport, MediaError> {
        if let Err(error) = self.muxer.finish() {
            return Err(error.kept_as(self.keep_unfinished().as_deref()));
        }
        let mut report = WriteReport {
            packets_copied: self.packets,
            timestamps_repaired: self.muxer.times().repaired(),
            path: self.output.path().to_owned(),
            ..WriteReport::default()
        };
        self.output.complete(&mut self.muxer, ending, &mut report)?;
        Ok(report)
    }

    /// Ends a file after a failed run, as [`crate::MediaWriter::keep_unfinished`].
    pub fn keep_unfinished(mut self) -> Option<PathBuf> {
        // After a failure finishing may fail as well; what counts is what is on the disk.
        let _ = self.muxer.finish();
        self.muxer.close();
        self.output.keep_unfinished()
    }
}
