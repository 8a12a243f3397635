//! Pushes encoded video to a server (RTSP, RTMP, SRT, UDP), which may disconnect and reconnect during the run.
//!
//! [`PushEncoder`] encodes, and continues regardless of the server's state. [`PushTarget`] opens connections for its packets, one
//! after another. Both block, and are meant to be called from two threads; the caller decides when.

use std::{path::Path, sync::Arc, time::Duration};

use framerail_core::{CancelToken, Frame, Packet, SourceUrl, StreamInfo};

use crate::{
    MediaError, SidePayload, WriteReport, WriterOptions,
    av::{self, AvPacket},
    encoder::{Encoder, VideoTrack},
    interrupt::Interrupt,
    log::Secrecy,
    muxer::{Muxer, Place},
    side_tracks::{SideLayout, SideTracks},
    version,
    video_default::VideoDefault,
};

/// How to connect to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushOptions {
    /// Maximum time to wait for the server to accept data.
    pub timeout: Duration,
    /// RTSP transport, `tcp` or `udp`. Other protocols have it in their scheme.
    pub rtsp_transport: String,
    /// How long the connection stays open after the last packet. RTSP and SRT receivers buffer the latest frames to smooth network
    /// jitter, and discard them when the connection ends. Default: the latency in an SRT URL plus one second, one second for RTSP, and
    /// zero for others.
    pub linger: Option<Duration>,
}

/// Default time that a connection stays open after the last packet, if receivers buffer frames.
const LINGER: Duration = Duration::from_secs(1);
/// Maximum time that a connection stays open after the last packet.
pub const LONGEST_LINGER: Duration = Duration::from_secs(60);
/// Size of UDP datagrams: seven MPEG-TS packets. FFmpeg's default size would split packets.
const DATAGRAM_BYTES: &str = "1316";

fn scheme_of(url: &str) -> String {
    url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).unwrap_or_default()
}

/// Default time that a connection to a URL stays open after the last packet.
fn linger_of(url: &str) -> Duration {
    match scheme_of(url).as_str() {
        "rtsp" | "rtsps" => LINGER,
        // FFmpeg's latency option is in microseconds.
        "srt" => {
            let query = url.split_once('?').map_or("", |(_, query)| query);
            let stated = query.split('&').filter_map(|pair| pair.split_once('='));
            let latencies = stated.filter(|(name, _)| matches!(*name, "latency" | "peerlatency" | "rcvlatency"));
            let micros = latencies.filter_map(|(_, value)| value.parse::<u64>().ok()).max().unwrap_or(0);
            LINGER.saturating_add(Duration::from_micros(micros))
        }
        _ => Duration::ZERO,
    }
}

/// The container for a URL's scheme; `None` for schemes that do not support pushing.
fn format_of(url: &str) -> Option<&'static str> {
    match scheme_of(url).as_str() {
        "rtsp" | "rtsps" => Some("rtsp"),
        "rtmp" | "rtmps" | "rtmpt" => Some("flv"),
        "srt" | "udp" | "tcp" => Some("mpegts"),
        _ => None,
    }
}

/// Checks whether this FFmpeg can push to a URL of this kind, without opening anything.
///
/// # Errors
/// `Unsupported` for a scheme that does not support pushing, or that this FFmpeg was built without; `BadOption` for an unknown
/// encoder.
pub fn check_push(url: &str, options: &WriterOptions) -> Result<(), MediaError> {
    av::init();
    let shown = SourceUrl::new(url).to_string();
    let refuse = |reason: &str| Err(MediaError::Unsupported { what: shown.clone(), reason: reason.into() });
    let Some(format) = format_of(url) else {
        return refuse("video can be pushed to rtsp, rtmp, srt, udp and tcp addresses; else write a file or an HLS playlist (.m3u8)");
    };
    let scheme = scheme_of(url);
    let (protocols, formats) = (version::output_protocols(), version::muxers());
    // FFmpeg implements RTSP as a format over TCP.
    let protocol = match scheme.as_str() {
        "rtsp" => "tcp",
        "rtsps" => "tls",
        other => other,
    };
    if !protocols.iter().any(|known| known == protocol) || !formats.iter().any(|known| known == format) {
        return refuse("this FFmpeg was built without its protocol; `framerail doctor` lists the available ones");
    }
    match &options.codec {
        Some(codec) => Encoder::check(codec),
        None => Ok(()),
    }
}

/// A packet for a server or a file; clones share its data.
#[derive(Clone)]
pub struct PushPacket {
    packet: Arc<AvPacket>,
    /// Its side stream; `None` for video.
    side: Option<usize>,
}

impl PushPacket {
    pub(crate) fn of_side(side: usize, packet: AvPacket) -> Self {
        Self { packet: Arc::new(packet), side: Some(side) }
    }

    pub(crate) fn of_video(packet: AvPacket) -> Self {
        Self { packet: Arc::new(packet), side: None }
    }

    /// A second packet over the same data.
    pub(crate) fn bytes_of(&self) -> Result<AvPacket, MediaError> {
        self.packet.share()
    }

    /// Its side stream; `None` for video.
    pub(crate) fn side(&self) -> Option<usize> {
        self.side
    }

    fn seconds(&self, ticks: i64) -> Option<f64> {
        av::timestamp(ticks).map(|ticks| av::time_base(self.packet.time_base).seconds(ticks))
    }

    /// PTS in seconds, or DTS if there is none.
    pub fn pts_seconds(&self) -> Option<f64> {
        self.seconds(self.packet.pts).or_else(|| self.seconds(self.packet.dts))
    }

    /// DTS in seconds, or PTS if there is none.
    pub fn dts_seconds(&self) -> Option<f64> {
        self.seconds(self.packet.dts).or_else(|| self.seconds(self.packet.pts))
    }

    /// Whether it is a video packet.
    pub fn is_video(&self) -> bool {
        self.side.is_none()
    }

    /// Whether decoding can start with it.
    pub fn is_keyframe(&self) -> bool {
        self.is_video() && self.packet.flags & ffmpeg_the_third::ffi::AV_PKT_FLAG_KEY != 0
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.packet.data().len()
    }
}

/// Encodes frames to packets for a server.
pub struct PushEncoder {
    encoder: Encoder,
    sides: SideTracks,
    target: PushTarget,
}

impl PushEncoder {
    /// Opens the encoder, without contacting the server. `info` is as for [`crate::MediaWriter::create`].
    ///
    /// # Errors
    /// `Unsupported`, `BadOption`, as [`check_push`]; `Ffmpeg`.
    pub fn open(url: &str, options: &WriterOptions, push: &PushOptions, info: &StreamInfo) -> Result<Self, MediaError> {
        check_push(url, options)?;
        let options = WriterOptions { format: options.format.clone().or(format_of(url).map(str::to_owned)), ..options.clone() };
        let muxer = Muxer::new(Path::new(url), &options)?;
        let chosen = VideoDefault::choose(muxer.format(), &options, info)?;
        let encoding = WriterOptions { pixel_format: chosen.pixel_format, ..options.clone() };
        let encoder = Encoder::open(&chosen.codec, &encoding, info, &muxer.format().demands())?;
        let track = encoder.track()?;
        let sides = SideTracks::plan(muxer.format(), &options, info, &track)?;
        let (layout, warnings) = (sides.layout(), chosen.warning.iter().chain(&sides.warnings).cloned().collect());
        let target = PushTarget { url: url.to_owned(), options, push: push.clone(), info: info.clone(), track, layout, warnings };
        Ok(Self { encoder, sides, target })
    }

    /// The target, which opens connections for the packets, on any thread.
    pub fn target(&self) -> PushTarget {
        self.target.clone()
    }

    /// Makes the next frame a keyframe: for a server that was just connected.
    pub fn request_keyframe(&mut self) {
        self.encoder.request_keyframe();
    }

    /// Encodes a frame; returns the packets that are ready. The surface must be on the host.
    ///
    /// # Errors
    /// `Ffmpeg`; `Core` for a device surface.
    pub fn encode(&mut self, frame: &Frame) -> Result<Vec<PushPacket>, MediaError> {
        self.encoder.send(frame)?;
        self.ready()
    }

    /// Returns the packets that the encoder still holds.
    ///
    /// # Errors
    /// `Ffmpeg`.
    pub fn drain(&mut self) -> Result<Vec<PushPacket>, MediaError> {
        self.encoder.send_end()?;
        let mut packets = self.ready()?;
        packets.extend(self.sides.finish()?.into_iter().map(|(side, packet)| PushPacket::of_side(side, packet)));
        Ok(packets)
    }

    fn ready(&mut self) -> Result<Vec<PushPacket>, MediaError> {
        let mut packets = Vec::new();
        while let Some(packet) = self.encoder.receive()? {
            packets.push(PushPacket::of_video(packet));
        }
        Ok(packets)
    }

    /// Takes a side packet; returns the packets for the server: the same packet unchanged, or its conversion if the server's container
    /// does not support the codec. A dropped packet is counted as skipped.
    ///
    /// # Errors
    /// `Ffmpeg` when an encoder fails.
    pub fn copy(&mut self, packet: &Packet) -> Result<Vec<PushPacket>, MediaError> {
        let Some(payload) = packet.payload.downcast_ref::<SidePayload>() else {
            self.sides.counts.skipped += 1;
            return Ok(Vec::new());
        };
        let ready = self.sides.take(packet.side_stream, payload.at(packet)?)?;
        Ok(ready.into_iter().map(|ready| PushPacket::of_side(packet.side_stream, ready)).collect())
    }

    /// Counts of what was encoded so far. `bytes` is 0: the sender counts bytes.
    pub fn report(&self) -> WriteReport {
        let (counts, sides) = (&self.encoder.counts, self.sides.counts);
        WriteReport {
            codec: self.encoder.name().to_owned(),
            pixel_format: self.encoder.format_name(),
            frames: counts.frames,
            packets_copied: sides.copied,
            packets_encoded: sides.encoded,
            packets_damaged: self.sides.damaged(),
            packets_skipped: sides.skipped,
            frames_converted: counts.converted,
            frames_rescaled: counts.rescaled,
            timestamps_rounded: counts.rounded,
            frames_repeated: counts.repeated,
            timestamps_repaired: counts.repaired,
            warnings: self.encoder.warnings.iter().cloned().chain(self.encoder.late_warnings()).chain(self.sides.late_warnings()).collect(),
            ..WriteReport::default()
        }
    }
}

/// Opens connections to one server.
#[derive(Clone)]
pub struct PushTarget {
    url: String,
    options: WriterOptions,
    push: PushOptions,
    info: StreamInfo,
    track: VideoTrack,
    layout: SideLayout,
    warnings: Vec<String>,
}

impl PushTarget {
    /// The server's URL without secrets.
    pub fn shown(&self) -> String {
        SourceUrl::new(&self.url).to_string()
    }

    /// How long connections stay open after the last packet; at most a minute.
    pub fn linger(&self) -> Duration {
        self.push.linger.unwrap_or_else(|| linger_of(&self.url)).min(LONGEST_LINGER)
    }

    /// Connects and announces the streams. Blocks up to the timeout, or until `cancel` is cancelled.
    ///
    /// # Errors
    /// `Io` with the message of the server or the system, `Timeout`, `Cancelled`, `BadOption`.
    pub fn connect(&self, cancel: &CancelToken) -> Result<PushConnection, MediaError> {
        let interrupt = Interrupt::new(cancel.clone(), Some(self.push.timeout));
        let secrecy = Secrecy::of(&SourceUrl::new(&self.url));
        let mut muxer = Muxer::new(Path::new(&self.url), &self.options)?;
        muxer.call_it(&self.shown());
        let mut options = Vec::new();
        if muxer.format().name() == "rtsp" {
            options.push(("rtsp_transport", self.push.rtsp_transport.clone()));
        }
        if scheme_of(&self.url) == "udp" && !self.url.contains("pkt_size=") {
            options.push(("pkt_size", DATAGRAM_BYTES.to_owned()));
        }
        let place = Place::Server { url: &self.url, interrupt: &interrupt, options };
        muxer.start(&place, &self.options, &self.info, &self.track, &self.layout)?;
        let warnings = self.warnings.clone();
        Ok(PushConnection { muxer, warnings, linger: self.linger(), cancel: cancel.clone(), _secrecy: secrecy })
    }
}

/// An open connection to a server. Dropping it aborts the connection.
pub struct PushConnection {
    muxer: Muxer,
    warnings: Vec<String>,
    linger: Duration,
    cancel: CancelToken,
    /// Dropped after the muxer, which may log messages while closing.
    _secrecy: Secrecy,
}

impl PushConnection {
    /// Sends a packet; returns `false` for one of a side stream that the server's container does not support. The first video packet
    /// must be a keyframe. The earliest packet of a connection has time zero, unless [`WriterOptions::keep_start`] is set.
    ///
    /// # Errors
    /// `Io`, `Timeout`, `Cancelled`: the connection cannot be used any more.
    pub fn write(&mut self, packet: &PushPacket) -> Result<bool, MediaError> {
        let bytes = packet.packet.share()?;
        match packet.side {
            Some(side) => self.muxer.write_side(side, bytes),
            None => self.muxer.write_video(bytes).map(|()| true),
        }
    }

    /// How streams are handled that the server's container does not support, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Sends buffered data, keeps the connection open for [`PushTarget::linger`], and signals the end to the server.
    ///
    /// # Errors
    /// As [`PushConnection::write`].
    pub fn finish(mut self) -> Result<(), MediaError> {
        self.muxer.flush()?;
        self.cancel.wait_for(self.linger);
        self.muxer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_distinguished() {
        assert_eq!((format_of("RTSP://h/x"), format_of("srt://h:1"), format_of("out.mp4")), (Some("rtsp"), Some("mpegts"), None));
        assert_eq!([linger_of("rtsp://h/x"), linger_of("SRT://h:1?mode=caller")], [Duration::from_secs(1); 2]);
        assert_eq!(linger_of("srt://h:1?latency=500000&pkt_size=1316"), Duration::from_millis(1500));
        assert_eq!([linger_of("rtmp://h/x"), linger_of("udp://h:1")], [Duration::ZERO; 2]);
        let error = check_push("http://host/x", &WriterOptions::default()).expect_err("not pushed to");
        assert!(error.to_string().contains("rtsp"), "{error}");
        check_push("rtsp://host/x", &WriterOptions::default()).expect("every FFmpeg has it");
    }
}
