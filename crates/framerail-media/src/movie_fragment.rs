//! A fragment of an MP4 or MOV file: the samples that its `moof` box describes (ISO/IEC 14496-12).

use crate::mp4_boxes::{Boxes, Fields, boxes, find};

/// Up to this many samples of equal size, sizes are stored individually; PCM has more.
const FEW_SAMPLES: u32 = 1024;

/// The body of a `moof` box.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MovieFragment {
    /// Its sequence number among the file's fragments.
    pub(crate) sequence: Option<u32>,
    pub(crate) tracks: Vec<TrackFragment>,
    /// Some of its boxes are invalid: samples may be missing from the list.
    pub(crate) is_broken: bool,
}

/// A `traf` box: the samples of one track.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TrackFragment {
    pub(crate) track: u32,
    /// Base of the run offsets; `None` for the start of the `moof`.
    pub(crate) base: Option<u64>,
    /// Decoding time of the first sample, in the track's ticks.
    pub(crate) start: Option<u64>,
    pub(crate) runs: Vec<TrackRun>,
}

/// A `trun` box: contiguous samples.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TrackRun {
    pub(crate) offset: i64,
    pub(crate) samples: u32,
    pub(crate) bytes: u64,
    /// Total duration in ticks.
    pub(crate) duration: u64,
    /// Sample sizes; empty if there are many samples of equal size.
    pub(crate) sizes: Vec<u32>,
}

/// Default duration and size of a track's samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SampleDefaults {
    pub(crate) duration: u32,
    pub(crate) size: u32,
}

impl SampleDefaults {
    /// Reads a track's `trex` from the body of the `moov`; `None` for a file without fragments.
    pub(crate) fn of_track(moov: &[u8], track: u32) -> Option<Self> {
        let extends = find(moov, &[b"mvex"])?;
        let of = |body: &[u8]| {
            let mut fields = Fields(body.get(4..)?);
            let id = fields.u32()?;
            fields.u32()?;
            Some((id, Self { duration: fields.u32()?, size: fields.u32()? }))
        };
        let mut all = boxes(extends).filter(|found| &found.kind == b"trex").filter_map(|found| of(found.body));
        Some(all.find(|(id, _)| *id == track).map_or_else(Self::default, |(_, defaults)| defaults))
    }
}

impl MovieFragment {
    /// Reads the body of a `moof`; `defaults` returns a track's defaults. Invalid parts are skipped.
    pub(crate) fn read(moof: &[u8], defaults: impl Fn(u32) -> SampleDefaults) -> Self {
        let mut fragment = Self::default();
        let mut rest = boxes(moof);
        for found in rest.by_ref() {
            match &found.kind {
                b"mfhd" => fragment.sequence = found.body.get(4..).and_then(|body| Fields(body).u32()),
                b"traf" => match TrackFragment::read(found.body, &defaults) {
                    Some((track, is_whole)) => {
                        fragment.is_broken |= !is_whole;
                        fragment.tracks.push(track);
                    }
                    None => fragment.is_broken = true,
                },
                _ => {}
            }
        }
        fragment.is_broken |= !rest.0.is_empty() || fragment.sequence.is_none();
        fragment
    }

    /// Total size of all its samples in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.tracks.iter().flat_map(|track| &track.runs).map(|run| run.bytes).sum()
    }
}

impl TrackFragment {
    /// Also returns whether all of it was readable.
    fn read(traf: &[u8], defaults: impl Fn(u32) -> SampleDefaults) -> Option<(Self, bool)> {
        let mut fields = Fields(find(traf, &[b"tfhd"])?);
        let flags = fields.u32()?;
        let mut track = Self { track: fields.u32()?, ..Self::default() };
        let mut defaults = defaults(track.track);
        if flags & 0x01 != 0 {
            track.base = Some(fields.u64()?);
        }
        if flags & 0x02 != 0 {
            fields.u32()?;
        }
        if flags & 0x08 != 0 {
            defaults.duration = fields.u32()?;
        }
        if flags & 0x10 != 0 {
            defaults.size = fields.u32()?;
        }
        let (mut rest, mut is_whole): (Boxes<'_>, bool) = (boxes(traf), true);
        for found in rest.by_ref() {
            match &found.kind {
                b"tfdt" => {
                    let bytes = if found.body.first() == Some(&1) { 8 } else { 4 };
                    track.start = found.body.get(4..).and_then(|body| Fields(body).number(bytes));
                }
                b"trun" => match TrackRun::read(found.body, defaults) {
                    Some(run) => track.runs.push(run),
                    None => is_whole = false,
                },
                _ => {}
            }
        }
        is_whole &= rest.0.is_empty();
        Some((track, is_whole))
    }
}

impl TrackRun {
    fn read(body: &[u8], defaults: SampleDefaults) -> Option<Self> {
        let mut fields = Fields(body);
        let flags = fields.u32()?;
        let samples = fields.u32()?;
        let offset = if flags & 0x01 != 0 { i64::from(fields.u32()?.cast_signed()) } else { 0 };
        if flags & 0x04 != 0 {
            fields.u32()?;
        }
        let (has_durations, has_sizes) = (flags & 0x100 != 0, flags & 0x200 != 0);
        let entry = (flags & 0xf00).count_ones() as usize * 4;
        if fields.0.len() != usize::try_from(samples).ok()?.checked_mul(entry)? {
            return None;
        }
        let mut run = Self { offset, samples, ..Self::default() };
        let count = u64::from(samples);
        if !has_durations {
            run.duration = count * u64::from(defaults.duration);
        }
        if !has_sizes {
            run.bytes = count * u64::from(defaults.size);
            run.sizes = if samples <= FEW_SAMPLES { vec![defaults.size; samples as usize] } else { Vec::new() };
        }
        if has_durations || has_sizes {
            for entry in fields.0.chunks_exact(entry) {
                let mut fields = Fields(entry);
                if has_durations {
                    run.duration += u64::from(fields.u32()?);
                }
                if has_sizes {
                    let size = fields.u32()?;
                    run.bytes += u64::from(size);
                    run.sizes.push(size);
                }
            }
        }
        Some(run)
    }
}
