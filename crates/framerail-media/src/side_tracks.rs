//! Decides how side streams get into a container: copied, re-encoded, converted or dropped.

use std::collections::BTreeMap;

use framerail_core::{MediaKind, SideStream, StreamInfo, TimeBase};

use crate::{
    AudioMode, Chapter, MediaError, Parameters, SideParameters, WriterOptions, adts::AdtsCheck, audio_times::SampleTimes,
    audio_transcoder::AudioTranscoder, av::AvPacket, encoder::VideoTrack, output_format::OutputFormat,
    subtitle_converter::SubtitleConverter, track_fit::TrackFit,
};

/// Stream parameters of a side stream for a container.
#[derive(Clone)]
pub(crate) struct SideTrack {
    pub(crate) parameters: Parameters,
    pub(crate) time_base: TimeBase,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) disposition: i32,
}

/// The side streams and chapters of a container.
#[derive(Clone)]
pub(crate) struct SideLayout {
    /// By side stream index; `None` for dropped ones.
    pub(crate) tracks: Vec<Option<SideTrack>>,
    pub(crate) chapters: Vec<Chapter>,
}

/// How packets of a side stream get into the container.
enum Way {
    Copy,
    /// Copied, with times counted in samples.
    CopyAudio(SampleTimes),
    Encode(Box<AudioTranscoder>),
    Convert(Box<SubtitleConverter>),
}

/// The side streams of an output.
pub(crate) struct SideTracks {
    /// By side stream index; `None` for dropped ones.
    tracks: Vec<Option<(SideTrack, Way)>>,
    /// By side stream index, of copied AAC with a header in each packet.
    adts: BTreeMap<usize, AdtsCheck>,
    /// The chapters that are kept.
    chapters: Vec<Chapter>,
    /// Differences from the input, one line each.
    pub(crate) warnings: Vec<String>,
    pub(crate) counts: SideCounts,
}

/// Counts of side packets.
#[derive(Clone, Copy, Default)]
pub(crate) struct SideCounts {
    pub(crate) copied: u64,
    /// Packets that were re-encoded or converted.
    pub(crate) encoded: u64,
    pub(crate) skipped: u64,
}

impl SideTracks {
    /// Decides for each side stream of the input, and opens the encoders.
    ///
    /// # Errors
    /// `Ffmpeg` when memory is exhausted.
    pub(crate) fn plan(format: OutputFormat, options: &WriterOptions, info: &StreamInfo, video: &VideoTrack) -> Result<Self, MediaError> {
        let fit = TrackFit::new(format, options.hls.format, video.clone());
        let mut planner = Planner { fit, format, options, info, warnings: Vec::new(), chapters: Vec::new() };
        let tracks: Vec<_> = info.side_streams.iter().map(|side| planner.track(side)).collect::<Result<_, _>>()?;
        let copied = tracks.iter().enumerate().filter_map(|(index, track)| Some((index, track.as_ref()?)));
        let adts = copied.filter_map(|(index, track)| Some((index, planner.adts_check(info.side_streams.get(index)?, track)?))).collect();
        Ok(Self { tracks, adts, chapters: planner.chapters, warnings: planner.warnings, counts: SideCounts::default() })
    }

    /// Stream parameters for the container.
    pub(crate) fn layout(&self) -> SideLayout {
        let tracks = self.tracks.iter().map(|track| track.as_ref().map(|(stream, _)| stream.clone())).collect();
        SideLayout { tracks, chapters: self.chapters.clone() }
    }

    /// Takes a packet of a side stream; returns the packets for the container, in the time base of its [`SideTrack`].
    ///
    /// # Errors
    /// `Ffmpeg` when an encoder fails.
    pub(crate) fn take(&mut self, side: usize, packet: AvPacket) -> Result<Vec<AvPacket>, MediaError> {
        if self.adts.get_mut(&side).is_some_and(|check| !check.fits(packet.data())) {
            self.counts.skipped += 1;
            return Ok(Vec::new());
        }
        match self.tracks.get_mut(side) {
            Some(Some((_, Way::Copy))) => {
                self.counts.copied += 1;
                Ok(vec![packet])
            }
            Some(Some((_, Way::CopyAudio(times)))) => {
                self.counts.copied += 1;
                Ok(vec![times.refine(packet)])
            }
            Some(Some((_, Way::Encode(transcoder)))) => {
                self.counts.encoded += 1;
                transcoder.push(&packet)
            }
            Some(Some((_, Way::Convert(converter)))) => {
                self.counts.encoded += 1;
                Ok(converter.push(&packet))
            }
            _ => {
                self.counts.skipped += 1;
                Ok(Vec::new())
            }
        }
    }

    /// Returns the packets that encoders still hold, each with its side stream index.
    ///
    /// # Errors
    /// `Ffmpeg` when an encoder fails.
    pub(crate) fn finish(&mut self) -> Result<Vec<(usize, AvPacket)>, MediaError> {
        let mut rest = Vec::new();
        for (side, track) in self.tracks.iter_mut().enumerate() {
            if let Some((_, Way::Encode(transcoder))) = track {
                rest.extend(transcoder.finish()?.into_iter().map(|packet| (side, packet)));
            }
        }
        Ok(rest)
    }

    /// Warnings that arose while packets were taken.
    pub(crate) fn late_warnings(&self) -> impl Iterator<Item = String> {
        self.adts.values().filter_map(AdtsCheck::warning)
    }

    /// Number of packets that could not be decoded so far.
    pub(crate) fn damaged(&self) -> u64 {
        let damaged = |track: &Option<(SideTrack, Way)>| match track {
            Some((_, Way::Encode(transcoder))) => transcoder.damaged(),
            Some((_, Way::Convert(converter))) => converter.damaged(),
            _ => 0,
        };
        self.tracks.iter().map(damaged).sum()
    }
}

struct Planner<'a> {
    fit: TrackFit,
    format: OutputFormat,
    options: &'a WriterOptions,
    info: &'a StreamInfo,
    warnings: Vec<String>,
    chapters: Vec<Chapter>,
}

impl Planner<'_> {
    fn track(&mut self, side: &SideStream) -> Result<Option<(SideTrack, Way)>, MediaError> {
        let Some(own) = side.parameters.downcast_ref::<SideParameters>() else { return Ok(None) };
        let (parameters, metadata, disposition) = match own {
            SideParameters::Chapters(chapters) => {
                self.keep_chapters(chapters);
                return Ok(None);
            }
            SideParameters::Stream { parameters, metadata, disposition } => (parameters, metadata, *disposition),
        };
        let found = match side.kind {
            MediaKind::Audio => self.audio(side, parameters, metadata)?,
            MediaKind::Subtitle => self.subtitles(side, parameters, metadata)?,
            MediaKind::Video => None,
            MediaKind::Data => {
                self.leave_data(side, parameters, metadata);
                None
            }
            MediaKind::Attachment => self.attachment(side, parameters, metadata)?,
        };
        let Some((parameters, time_base, way)) = found else { return Ok(None) };
        self.fit.add(parameters.clone());
        Ok(Some((SideTrack { parameters, time_base, metadata: metadata.clone(), disposition }, way)))
    }

    fn audio(&mut self, side: &SideStream, parameters: &Parameters, metadata: &[(String, String)]) -> Result<Found, MediaError> {
        let name = self.named(side, metadata, "audio");
        let container = self.fit.name();
        let mode = self.options.audio;
        let is_taken = self.fit.takes_audio(parameters);
        let voice = self.options.voice.as_ref();
        match mode {
            AudioMode::Auto | AudioMode::Copy if is_taken && voice.is_none() => {
                let way = SampleTimes::of(parameters).map_or(Way::Copy, Way::CopyAudio);
                return Ok(Some((self.fit.copied(parameters)?, side.time_base, way)));
            }
            AudioMode::Copy => {
                self.warnings.push(format!("{name} is dropped: {container} does not support {}; audio=auto encodes it", side.codec));
                return Ok(None);
            }
            _ => {}
        }
        let encoders = if mode == AudioMode::Encode { self.fit.usual_audio() } else { self.fit.encoders_for(parameters) };
        if encoders.is_empty() {
            self.warnings.push(format!("{name} is dropped: {container} has no audio"));
            return Ok(None);
        }
        let has_global_header = self.format.has(ffmpeg_the_third::ffi::AVFMT_GLOBALHEADER);
        let opened = AudioTranscoder::open(parameters, side.time_base, &encoders, has_global_header);
        let transcoder = match opened {
            Ok(transcoder) => match voice {
                Some(voice) => transcoder.covered(voice, self.info.start_offset_micros as f64 / 1e6),
                None => transcoder,
            },
            Err(reason) if voice.is_some() => {
                self.warnings.push(format!("{name} is dropped: it cannot be covered, {reason}"));
                return Ok(None);
            }
            Err(reason) => {
                self.warnings.push(format!("{name} is dropped: {container} does not support {}, and {reason}", side.codec));
                return Ok(None);
            }
        };
        let made = transcoder.parameters()?;
        if !self.fit.takes_audio(&made) {
            self.warnings.push(format!("{name} is dropped: {container} supports no further audio"));
            return Ok(None);
        }
        let why = if voice.is_some() && is_taken {
            ", to cover parts of it".into()
        } else if is_taken {
            String::new()
        } else {
            format!(": {container} does not support {}", side.codec)
        };
        let differences = transcoder.differences.iter().map(|difference| format!(", {difference}")).collect::<String>();
        self.warnings.push(format!("{name} is encoded as {}{differences}{why}", made.codec_name()));
        let time_base = transcoder.time_base();
        Ok(Some((self.fit.copied(&made)?, time_base, Way::Encode(Box::new(transcoder)))))
    }

    /// The check of copied AAC whose packets have headers, for containers that store the settings once.
    fn adts_check(&self, side: &SideStream, (track, way): &(SideTrack, Way)) -> Option<AdtsCheck> {
        let is_copied = matches!(way, Way::Copy | Way::CopyAudio(_));
        let is_aac = side.codec == "aac" && track.parameters.extradata().is_empty();
        (is_copied && is_aac && !self.fit.keeps_adts()).then(|| AdtsCheck::new(self.named(side, &track.metadata, "audio")))
    }

    fn subtitles(&mut self, side: &SideStream, parameters: &Parameters, metadata: &[(String, String)]) -> Result<Found, MediaError> {
        if self.fit.takes_subtitles(parameters) {
            return Ok(Some((self.fit.copied(parameters)?, side.time_base, Way::Copy)));
        }
        let (name, container) = (self.named(side, metadata, "subtitle"), self.fit.name());
        let wanted = self.fit.usual_subtitles();
        let converter = wanted.and_then(|codec| SubtitleConverter::open(parameters, side.time_base, codec));
        if let Some(converter) = converter {
            let made = converter.parameters()?;
            if self.fit.takes_subtitles(&made) {
                let (codec, time_base) = (made.codec_name(), converter.time_base());
                self.warnings.push(format!("{name} is converted to {codec}: {container} does not support {}", side.codec));
                return Ok(Some((self.fit.copied(&made)?, time_base, Way::Convert(Box::new(converter)))));
            }
        }
        let instead = if self.is_taken_by("matroska", parameters) { "; .mkv keeps it" } else { "" };
        self.warnings.push(format!("{name} is dropped: {container} does not support {}{instead}", side.codec));
        Ok(None)
    }

    /// Whether another container supports the subtitles without conversion.
    fn is_taken_by(&self, other: &str, parameters: &Parameters) -> bool {
        let format = OutputFormat::find("x".as_ref(), Some(other)).ok().filter(|_| self.fit.name() != other && !self.format.is_live());
        format.is_some_and(|format| format.takes_codec(parameters.get().codec_id))
    }

    fn attachment(&mut self, side: &SideStream, parameters: &Parameters, metadata: &[(String, String)]) -> Result<Found, MediaError> {
        if self.fit.takes_attachment(parameters, metadata) {
            return Ok(Some((self.fit.copied(parameters)?, side.time_base, Way::Copy)));
        }
        let container = self.fit.name();
        let file = tag(metadata, "filename").map(|file| format!("{file:?}, ")).unwrap_or_default();
        self.warnings.push(format!("the attachment ({file}{}) is dropped: {container} does not support it", side.codec));
        Ok(None)
    }

    fn leave_data(&mut self, side: &SideStream, parameters: &Parameters, metadata: &[(String, String)]) {
        let container = self.fit.name();
        let four = parameters.get().codec_tag.to_le_bytes();
        let code = String::from_utf8_lossy(&four).into_owned();
        if code == "tmcd" {
            // Muxers of MOV and MP4 create the track from the tag; others keep the tag.
            let timecode = tag(&self.info.metadata, "timecode").or(tag(metadata, "timecode"));
            if timecode.is_none() || !self.options.keep_metadata || !self.fit.takes_timecode() {
                let shown = timecode.map(|timecode| format!(" ({timecode})")).unwrap_or_default();
                self.warnings.push(format!("the timecode track{shown} is dropped: {container} does not support it"));
            }
            return;
        }
        let is_known = !matches!(side.codec.as_str(), "none" | "unknown" | "bin_data");
        let is_code = four.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
        let what = match tag(metadata, "handler_name").map(str::trim).filter(|name| !name.is_empty()) {
            _ if is_known => format!(" ({})", side.codec),
            Some(handler) if is_code => format!(" ({}, {handler})", code.trim()),
            None if is_code => format!(" ({})", code.trim()),
            Some(handler) => format!(" ({handler})"),
            None => String::new(),
        };
        self.warnings.push(format!("the data stream{what} is dropped: data streams are not copied"));
    }

    fn keep_chapters(&mut self, chapters: &[Chapter]) {
        if !self.options.keep_metadata {
            return;
        }
        if self.fit.takes_chapters() {
            self.chapters = chapters.to_vec();
        } else {
            let count = if chapters.len() == 1 { "1 chapter is".to_owned() } else { format!("{} chapters are", chapters.len()) };
            self.warnings.push(format!("{count} dropped: {} does not support them", self.fit.name()));
        }
    }

    /// Describes a side stream for messages: its number among those of its kind, if there are several, codec and language.
    fn named(&self, side: &SideStream, metadata: &[(String, String)], kind: &str) -> String {
        let same: Vec<&SideStream> = self.info.side_streams.iter().filter(|other| other.kind == side.kind).collect();
        let number = same.iter().position(|other| std::ptr::eq(*other, side)).filter(|_| same.len() > 1);
        let number = number.map(|number| format!(" {}", number + 1)).unwrap_or_default();
        let language = tag(metadata, "language").filter(|language| *language != "und").map(|language| format!(", {language}"));
        format!("{kind} stream{number} ({}{})", side.codec, language.unwrap_or_default())
    }
}

type Found = Option<(Parameters, TimeBase, Way)>;

fn tag<'a>(metadata: &'a [(String, String)], key: &str) -> Option<&'a str> {
    metadata.iter().find(|(known, _)| known.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
}

#[cfg(test)]
pub(crate) mod tests;
