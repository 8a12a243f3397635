//! Exact timestamps for copied audio.
//!
//! Containers round times; Matroska and FLV round to milliseconds. Packets with a known number of samples allow restoring the exact
//! times. Without that, packets shorter than a tick would share a timestamp, and others would be unevenly spaced.

use ffmpeg_the_third::ffi;
use framerail_core::TimeBase;

use crate::{
    Parameters,
    av::{self, AvPacket},
};

/// Counts the samples of packets.
pub(crate) struct SampleTimes {
    parameters: Parameters,
    base: TimeBase,
    /// End of the last packet, in samples.
    end: Option<i64>,
    /// Time of the last packet of unknown duration, in its container's ticks.
    last: Option<i64>,
}

impl SampleTimes {
    /// Creates the counter for a stream; `None` without a sample rate.
    pub(crate) fn of(parameters: &Parameters) -> Option<Self> {
        let rate = i64::from(parameters.get().sample_rate);
        let base = TimeBase::new(1, rate).filter(|_| rate > 0)?;
        let own = parameters.changed(|_| {}).ok()?;
        Some(Self { parameters: own, base, end: None, last: None })
    }

    /// Returns the packet with its time in samples: the counted time, if the stated one differs only by the container's rounding.
    pub(crate) fn refine(&mut self, mut packet: AvPacket) -> AvPacket {
        // SAFETY: valid parameters, which are only read.
        let samples = unsafe { ffi::av_get_audio_frame_duration2(std::ptr::from_ref(self.parameters.get()).cast_mut(), packet.size) };
        let stated = av::timestamp(packet.pts);
        let (Some(pts), true) = (stated.filter(|_| samples > 0), packet.time_base.num > 0) else {
            self.end = None;
            return self.lasting(packet);
        };
        let from = av::time_base(packet.time_base);
        let counted = from.rescale(pts, self.base);
        let tick = from.rescale(1, self.base).max(1);
        let is_near = |end: &i64| counted.saturating_sub(*end).saturating_abs() <= tick.saturating_mul(2);
        let exact = self.end.filter(is_near).unwrap_or(counted);
        // The last packet may play fewer samples than it holds.
        let lasts = from.rescale(packet.duration, self.base);
        let samples = if lasts > 0 && lasts.saturating_add(tick) < samples.into() { lasts } else { samples.into() };
        (packet.pts, packet.dts, packet.duration) = (exact, exact, samples);
        packet.time_base = av::rational(self.base.ratio());
        self.end = Some(exact.saturating_add(samples));
        packet
    }
}

impl SampleTimes {
    /// Sets a missing duration to the distance from the previous packet: MP4 would not play the last packet without one.
    fn lasting(&mut self, mut packet: AvPacket) -> AvPacket {
        if let Some(pts) = av::timestamp(packet.pts) {
            let apart = self.last.map_or(0, |last| pts.saturating_sub(last));
            if packet.duration <= 0 && apart > 0 {
                packet.duration = apart;
            }
            self.last = Some(pts);
        }
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_times_are_exact_again() {
        let source = Parameters::of_codec(ffi::AVCodecID::AAC, &[]);
        let source = source.changed(|copy| (copy.codec_type, copy.sample_rate, copy.frame_size) = (ffi::AVMediaType::AUDIO, 48_000, 1024));
        let mut times = SampleTimes::of(&source.expect("memory")).expect("a rate");
        let mut at = |pts| {
            let mut packet = AvPacket::of_bytes(&[0; 100]).expect("memory");
            (packet.pts, packet.dts, packet.time_base) = (pts, pts, ffi::AVRational { num: 1, den: 1000 });
            let refined = times.refine(packet);
            assert_eq!((refined.duration, refined.time_base.den), (1024, 48_000));
            refined.pts
        };
        assert_eq!([at(0), at(21), at(43), at(64)], [0, 1024, 2048, 3072]);
        assert_eq!(at(500), 24_000, "a gap stays");
        assert_eq!(at(521), 25_024);
    }
}
