//! Audio for a [`MediaWriter`](crate::MediaWriter) whose frames come from elsewhere: a track copied from a file, or raw samples.

use std::sync::Arc;

use ffmpeg_the_third::ffi;
use framerail_core::{MediaKind, Packet, Pts, SideStream, StreamId, TimeBase};

use crate::{
    InputOptions, MediaError, Parameters, SideParameters, SidePayload,
    audio_decoder::find_audio,
    av::{self, AvPacket},
    container::Container,
    describe,
    interrupt::Interrupt,
};

/// Reads the packets of one audio stream, on a clock that starts with the file.
pub struct AudioTrack {
    container: Container,
    interrupt: Arc<Interrupt>,
    source_name: String,
    stream: usize,
    time_base: TimeBase,
    start: i64,
    side: SideStream,
}

impl AudioTrack {
    /// Opens an audio stream of a source: number `stream` among its audio streams, FFmpeg's default when `None`.
    ///
    /// # Errors
    /// `NoAudio`, and the errors of opening.
    pub fn open(options: &InputOptions, stream: Option<usize>) -> Result<Self, MediaError> {
        av::init();
        let options = options.resolved()?;
        let interrupt = Interrupt::new(options.cancel.clone(), options.read_timeout);
        let mut container = Container::open(options.source.reveal(), &options, &interrupt)?;
        let source_name = options.source.to_string();
        let stream = find_audio(&mut container, stream, true)?;
        container.discard_others(&[stream]);
        let no_audio = || MediaError::NoAudio { source_name: source_name.clone(), found: describe::listing(&container) };
        let side = describe::side_stream(container.stream(stream).ok_or_else(no_audio)?, MediaKind::Audio)?;
        let time_base = side.time_base;
        let start = av::timestamp(container.get().start_time).map_or(0, |micros| TimeBase::MICROS.rescale(micros, time_base));
        Ok(Self { container, interrupt, source_name, stream, time_base, start, side })
    }

    /// Description of the stream for a writer.
    pub fn side_stream(&self) -> SideStream {
        self.side.clone()
    }

    /// Returns the next packet, as that of side stream 0; `None` at the end.
    ///
    /// # Errors
    /// `Cancelled`, `Timeout`; `Io` of a custom source.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, MediaError> {
        loop {
            let mut packet = AvPacket::new();
            match self.container.read(&mut packet) {
                Ok(()) if packet.stream_index as usize == self.stream => {
                    let time = |ticks: i64| av::timestamp(ticks).map(|ticks| Pts(ticks.saturating_sub(self.start)));
                    return Ok(Some(packet_of(packet.share()?, time(packet.pts).or(time(packet.dts)), self.time_base)));
                }
                Ok(()) => {}
                Err(code) => {
                    if let Some(reason) = self.interrupt.reason(&self.source_name) {
                        return Err(reason);
                    }
                    if code == ffi::AVERROR(libc::EAGAIN) {
                        continue;
                    }
                    return self.container.source_error().map_or(Ok(None), Err);
                }
            }
        }
    }
}

/// Makes packets from samples. A writer encodes them, or copies them if its container holds 32-bit float PCM.
pub struct SamplePackets {
    rate: u32,
    channels: u32,
    side: SideStream,
    /// Number of the next sample.
    next: i64,
}

impl SamplePackets {
    /// Maximum number of samples in one packet.
    const PACKET_SAMPLES: usize = 1024;

    /// Creates packets for samples at `rate` Hz with `channels` channels.
    ///
    /// # Errors
    /// `BadOption` for 0, for more than 768000 Hz, or for more than 8 channels.
    pub fn new(rate: u32, channels: u32) -> Result<Self, MediaError> {
        let bad = |name: &str, reason: &str| Err(MediaError::BadOption { name: name.into(), reason: reason.into(), nearest: None });
        if rate == 0 || rate > 768_000 {
            return bad("sample_rate", "must be from 1 to 768000 Hz");
        }
        if channels == 0 || channels > 8 {
            return bad("audio_channels", "must be from 1 to 8");
        }
        let parameters = Parameters::of_float_audio(rate, channels);
        let side = SideStream {
            kind: MediaKind::Audio,
            codec: parameters.codec_name(),
            time_base: TimeBase::new(1, i64::from(rate)).unwrap_or(TimeBase::MICROS),
            parameters: Arc::new(SideParameters::Stream { parameters, metadata: Vec::new(), disposition: 0 }),
        };
        Ok(Self { rate, channels, side, next: 0 })
    }

    /// Description of the stream for a writer.
    pub fn side_stream(&self) -> SideStream {
        self.side.clone()
    }

    /// Number of channels.
    pub fn channels(&self) -> u32 {
        self.channels
    }

    /// Time of the end of the last sample, in seconds.
    pub fn end_secs(&self) -> f64 {
        self.next as f64 / f64::from(self.rate)
    }

    /// Makes packets from the samples that follow the previous call's. `samples` holds little-endian 32-bit floats, channel by channel,
    /// all channels of the same length.
    ///
    /// # Errors
    /// `Ffmpeg` when memory is exhausted.
    pub fn push(&mut self, samples: &[u8]) -> Result<Vec<Packet>, MediaError> {
        let floats = samples.as_chunks::<4>().0;
        let channels = self.channels as usize;
        let count = floats.len() / channels;
        let mut packets = Vec::new();
        for from in (0..count).step_by(Self::PACKET_SAMPLES) {
            let to = (from + Self::PACKET_SAMPLES).min(count);
            let mut packet = AvPacket::of_size((to - from) * channels * 4)?;
            for (frame, at) in packet.data_mut().chunks_exact_mut(4 * channels).zip(from..to) {
                for (channel, out) in frame.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    *out = floats.get(channel * count + at).copied().unwrap_or_default();
                }
            }
            packet.duration = (to - from) as i64;
            packet.flags |= ffi::AV_PKT_FLAG_KEY;
            packets.push(packet_of(packet, Some(Pts(self.next)), self.side.time_base));
            self.next += (to - from) as i64;
        }
        Ok(packets)
    }
}

fn packet_of(mut packet: AvPacket, pts: Option<Pts>, time_base: TimeBase) -> Packet {
    packet.time_base = av::rational(time_base.ratio());
    Packet { stream: StreamId(0), side_stream: 0, pts, time_base, size_bytes: packet.data().len(), payload: Arc::new(SidePayload(packet)) }
}
