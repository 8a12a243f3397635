//! Converts a fragmented MP4 or MOV file to a regular one, copying its samples unchanged.
//!
//! A file is fragmented while it is written, so that the data on the disk is playable at any moment. In parallel, a second muxer
//! creates the index of the regular file from the same packets and discards the samples ([`crate::index_sink`]). At the end the
//! index is placed before the samples of the fragments and updated with their positions: edit lists, tags and chapters are exactly
//! those of a file written without fragments.

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom, Write},
};

use crate::{
    movie_fragment::{MovieFragment, SampleDefaults},
    mp4_boxes::{BoxHeader, Fields, boxes, find, track_id},
};

/// Largest box read into memory: the header of a fragment or of a file.
const MAX_BOX_BYTES: u64 = 1 << 30;

/// Size of an empty subtitle in bytes. The muxer ends texts with one, and starts a fragment without text with one, so fragments
/// contain more of them.
const EMPTY_SUBTITLE: u64 = 2;

/// Boxes that contain other boxes, from a file's index down to its tables.
const CONTAINERS: [&[u8; 4]; 5] = [b"moov", b"trak", b"mdia", b"minf", b"stbl"];

/// The second muxer's output around the samples.
pub(crate) struct MovIndex {
    /// Everything up to the samples, and what was written among them before the first packet.
    pub(crate) head: Vec<u8>,
    /// Position of the tail.
    pub(crate) tail_start: u64,
    /// Everything after the last packet: samples that the muxer created itself (chapters), and the index.
    pub(crate) tail: Vec<u8>,
}

/// Contiguous bytes of one track.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    offset: u64,
    bytes: u64,
    /// Sample sizes; empty if there are many samples of equal size.
    sizes: Vec<u32>,
}

impl MovIndex {
    /// Writes the regular file.
    ///
    /// # Errors
    /// A message if the fragments do not contain the samples of the index; the system's errors.
    pub(crate) fn write(&self, fragmented: &mut (impl Read + Seek), output: &mut impl Write) -> io::Result<()> {
        let fragments = Fragments::read(fragmented)?;
        let (head_samples, moov_at) = self.places()?;
        let moov = self.tail.get(offset_in(moov_at, self.tail_start)?..).ok_or_else(|| wrong("the index is missing"))?;
        let moov = boxes(moov).next().filter(|found| &found.kind == b"moov").ok_or_else(|| wrong("the index is missing"))?;
        let file_type = boxes(&self.head).next().filter(|found| &found.kind == b"ftyp").map_or(&[][..], |found| found.whole);
        // Samples that the muxer created itself, before and after the others.
        let before = self.head.get(head_samples..).unwrap_or_default();
        let behind = self.tail.get(..offset_in(moov_at, self.tail_start)?).unwrap_or_default();
        // A fragment that claims more than the file holds fails when it is copied; until then sums must not overflow.
        let samples = fragments.bytes().saturating_add((before.len() + behind.len()) as u64);
        // The size of the index depends only on the width of its offsets, not on their values.
        let mut layout = Layout { index: self, fragments: &fragments, head_samples, before, start: 0, is_long: true };
        let longest = file_type.len() as u64 + layout.rebuilt(moov.whole)?.len() as u64 + 16;
        layout.is_long = samples.saturating_add(longest) > u64::from(u32::MAX);
        let header = if layout.is_long { 16 } else { 8 };
        layout.start = file_type.len() as u64 + layout.rebuilt(moov.whole)?.len() as u64 + header;
        output.write_all(file_type)?;
        output.write_all(&layout.rebuilt(moov.whole)?)?;
        let size = samples.saturating_add(header);
        output.write_all(&if layout.is_long { 1 } else { u32::try_from(size).unwrap_or(0) }.to_be_bytes())?;
        output.write_all(b"mdat")?;
        if layout.is_long {
            output.write_all(&size.to_be_bytes())?;
        }
        for (run, _) in &fragments.media {
            fragmented.seek(SeekFrom::Start(run.offset))?;
            if io::copy(&mut Read::by_ref(fragmented).take(run.bytes), output)? != run.bytes {
                return Err(wrong("a fragment is cut off"));
            }
        }
        output.write_all(before)?;
        output.write_all(behind)
    }

    /// Position of the samples in the head, and of the index in the whole file.
    fn places(&self) -> io::Result<(usize, u64)> {
        let mut at = 0;
        while let Some(header) = self.head.get(at..) {
            let header = BoxHeader::read(header).filter(|header| header.size >= 8).ok_or_else(|| wrong("the header has no samples"))?;
            if &header.kind == b"mdat" {
                let end = (at as u64).checked_add(header.size).ok_or_else(|| wrong("the header has no samples"))?;
                return Ok((at + header.length, end));
            }
            at = at.saturating_add(usize::try_from(header.size).unwrap_or(usize::MAX));
        }
        Err(wrong("the header has no samples"))
    }
}

/// Positions of the samples in a fragmented file.
#[derive(Default)]
struct Fragments {
    /// Runs by track.
    runs: BTreeMap<u32, Vec<Run>>,
    /// All samples in file order, with the number of sample bytes before them.
    media: Vec<(Run, u64)>,
}

impl Fragments {
    fn read(file: &mut (impl Read + Seek)) -> io::Result<Self> {
        let end = file.seek(SeekFrom::End(0))?;
        let (mut at, mut fragments) = (0, Self::default());
        while at < end {
            file.seek(SeekFrom::Start(at))?;
            let mut header = [0; 16];
            let count = usize::try_from(end - at).unwrap_or(16).min(16);
            file.read_exact(header.get_mut(..count).unwrap_or_default())?;
            let header = BoxHeader::read(&header).filter(|header| header.size >= 8).ok_or_else(|| wrong("a broken box"))?;
            match &header.kind {
                b"moof" => {
                    file.seek(SeekFrom::Start(at))?;
                    let mut whole = vec![0; usize::try_from(header.size.min(MAX_BOX_BYTES)).unwrap_or(0)];
                    file.read_exact(&mut whole)?;
                    fragments.add(at, whole.get(header.length..).unwrap_or_default())?;
                }
                b"mdat" => {
                    let bytes = header.size.checked_sub(header.length as u64).ok_or_else(|| wrong("a broken box"))?;
                    let before = fragments.bytes();
                    before.checked_add(bytes).ok_or_else(|| wrong("a broken box"))?;
                    fragments.media.push((Run { offset: at + header.length as u64, bytes, sizes: Vec::new() }, before));
                }
                _ => {}
            }
            at = at.checked_add(header.size).ok_or_else(|| wrong("a broken box"))?;
        }
        Ok(fragments)
    }

    /// Adds the runs of a fragment that begins at this byte.
    fn add(&mut self, start: u64, moof: &[u8]) -> io::Result<()> {
        let fragment = MovieFragment::read(moof, |_| SampleDefaults::default());
        if fragment.is_broken {
            return Err(wrong("a broken fragment"));
        }
        for track in fragment.tracks {
            for run in track.runs {
                let offset = track.base.unwrap_or(start).checked_add_signed(run.offset).ok_or_else(|| wrong("a broken fragment"))?;
                self.runs.entry(track.track).or_default().push(Run { offset, bytes: run.bytes, sizes: run.sizes });
            }
        }
        Ok(())
    }

    /// Position of a sample byte when all samples are concatenated.
    fn place(&self, offset: u64) -> Option<u64> {
        let behind = self.media.partition_point(|(run, _)| run.offset <= offset);
        let (run, before) = self.media.get(behind.checked_sub(1)?)?;
        (offset - run.offset < run.bytes).then_some(before + offset - run.offset)
    }

    fn bytes(&self) -> u64 {
        self.media.last().map_or(0, |(run, before)| run.bytes + before)
    }
}

/// Computes the positions of samples for an index.
struct Layout<'a> {
    index: &'a MovIndex,
    fragments: &'a Fragments,
    /// Position of the samples in the head of the second muxer's file.
    head_samples: usize,
    /// Samples from there, which follow those of the fragments.
    before: &'a [u8],
    /// Position of the samples in the output.
    start: u64,
    /// Whether offsets have 64 bits.
    is_long: bool,
}

impl Layout<'_> {
    /// A box with its tracks' tables rebuilt.
    fn rebuilt(&self, whole: &[u8]) -> io::Result<Vec<u8>> {
        self.rebuilt_box(whole, None)
    }

    fn rebuilt_box(&self, whole: &[u8], track: Option<&Track>) -> io::Result<Vec<u8>> {
        let found = boxes(whole).next().ok_or_else(|| wrong("a broken index"))?;
        if !CONTAINERS.contains(&&found.kind) {
            return Ok(found.whole.to_vec());
        }
        let own = if &found.kind == b"trak" { Some(self.track(found.body)?) } else { None };
        let track = own.as_ref().or(track);
        let mut body = Vec::with_capacity(found.body.len());
        for child in boxes(found.body) {
            match (&child.kind, track) {
                (b"stsc", Some(track)) => body.extend(made(*b"stsc", &track.counts())),
                (b"stco" | b"co64", Some(track)) => {
                    let kind = if self.is_long { *b"co64" } else { *b"stco" };
                    body.extend(made(kind, &track.offsets(self.is_long)));
                }
                _ => body.extend(self.rebuilt_box(child.whole, track)?),
            }
        }
        Ok(made(found.kind, &body))
    }

    /// The chunks of a track.
    fn track(&self, trak: &[u8]) -> io::Result<Track> {
        let broken = || wrong("a broken track");
        let id = track_id(trak).ok_or_else(broken)?;
        let table = find(trak, &[b"mdia", b"minf", b"stbl"]).ok_or_else(broken)?;
        let sizes = Sizes::read(table).ok_or_else(broken)?;
        let runs = match self.fragments.runs.get(&id) {
            Some(runs) => runs.iter().filter(|run| run.bytes > 0).map(|run| self.moved(run)).collect(),
            None => self.made_by_muxer(table, &sizes),
        };
        let runs: Vec<Run> = runs.ok_or_else(|| wrong("samples without a position"))?;
        let mut track = Track::default();
        let mut sample = 0;
        for run in runs.iter().filter(|run| run.bytes > 0) {
            for (offset, count) in sizes.chunks_in(sample, run).ok_or_else(|| wrong("a fragment that does not end with a sample"))? {
                sample += u64::from(count);
                track.chunks.push((offset, count));
            }
        }
        if sample != sizes.count { Err(wrong("samples that are not in the fragments")) } else { Ok(track) }
    }

    fn moved(&self, run: &Run) -> Option<Run> {
        Some(Run { offset: self.start.checked_add(self.fragments.place(run.offset)?)?, ..run.clone() })
    }

    /// Samples that are in no fragment: written by the second muxer before the first packet or after the last.
    fn made_by_muxer(&self, table: &[u8], sizes: &Sizes<'_>) -> Option<Vec<Run>> {
        let behind_fragments = self.start.checked_add(self.fragments.bytes())?;
        let mut runs = Vec::new();
        let mut sample = 0;
        for (offset, count) in chunks(table)? {
            let bytes = sizes.bytes(sample, u64::from(count))?;
            sample += u64::from(count);
            let moved = match offset.checked_sub(self.index.tail_start) {
                Some(in_tail) => in_tail.checked_add(self.before.len() as u64)?,
                None => {
                    let fits = |in_head: &u64| in_head.checked_add(bytes).is_some_and(|end| end <= self.before.len() as u64);
                    offset.checked_sub(self.head_samples as u64).filter(fits)?
                }
            };
            runs.push(Run { offset: behind_fragments.checked_add(moved)?, bytes, sizes: Vec::new() });
        }
        Some(runs)
    }
}

/// The chunks of a track: position and number of samples of each.
#[derive(Default)]
struct Track {
    chunks: Vec<(u64, u32)>,
}

impl Track {
    /// The body of `stsc`.
    fn counts(&self) -> Vec<u8> {
        let mut entries: Vec<(u32, u32)> = Vec::new();
        for (number, (_, count)) in (1..).zip(&self.chunks) {
            if entries.last().is_none_or(|(_, last)| last != count) {
                entries.push((number, *count));
            }
        }
        let mut body = vec![0; 4];
        body.extend((entries.len() as u32).to_be_bytes());
        for (first, count) in entries {
            // The last field is the sample description; there is only one.
            body.extend([first, count, 1].into_iter().flat_map(u32::to_be_bytes));
        }
        body
    }

    /// The body of `co64`, or of `stco`.
    fn offsets(&self, is_long: bool) -> Vec<u8> {
        let mut body = vec![0; 4];
        body.extend((self.chunks.len() as u32).to_be_bytes());
        for (offset, _) in &self.chunks {
            if is_long { body.extend(offset.to_be_bytes()) } else { body.extend((*offset as u32).to_be_bytes()) }
        }
        body
    }
}

/// The sizes of a track's samples.
struct Sizes<'a> {
    /// Common size, if all are equal.
    each: Option<u32>,
    count: u64,
    table: &'a [u8],
}

impl<'a> Sizes<'a> {
    fn read(table: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(find(table, &[b"stsz"])?);
        fields.u32()?;
        let each = Some(fields.u32()?).filter(|size| *size > 0);
        Some(Self { each, count: fields.u32()?.into(), table: fields.0 })
    }

    fn of(&self, sample: u64) -> Option<u64> {
        if sample >= self.count {
            return None;
        }
        let at = usize::try_from(sample).ok()?.checked_mul(4)?;
        self.each.or_else(|| Fields(self.table.get(at..)?).u32()).map(u64::from)
    }

    /// Bytes of `count` samples from this one on.
    fn bytes(&self, first: u64, count: u64) -> Option<u64> {
        let end = first.checked_add(count).filter(|end| *end <= self.count)?;
        match self.each {
            Some(each) => count.checked_mul(each.into()),
            None => (first..end).map(|sample| self.of(sample)).sum(),
        }
    }

    /// Positions of the samples of a run, from this one on, as offsets and counts of contiguous samples.
    fn chunks_in(&self, first: u64, run: &Run) -> Option<Vec<(u64, u32)>> {
        // Fragments treat a PCM packet as one sample.
        let by_bytes = || Some(vec![(run.offset, u32::try_from(self.filling(first, run.bytes)?).ok()?)]);
        self.chunks_by_size(first, run).or_else(by_bytes)
    }

    fn chunks_by_size(&self, first: u64, run: &Run) -> Option<Vec<(u64, u32)>> {
        if run.sizes.is_empty() {
            return None;
        }
        let mut chunks: Vec<(u64, u32)> = Vec::new();
        let (mut offset, mut sample, mut is_apart) = (run.offset, first, true);
        for size in run.sizes.iter().map(|size| u64::from(*size)) {
            let mut is_found = false;
            // Samples without data are in no run.
            while !is_found && (self.of(sample) == Some(size) || self.of(sample) == Some(0)) {
                is_found = self.of(sample) == Some(size);
                match chunks.last_mut().filter(|_| !is_apart) {
                    Some((_, count)) => *count += 1,
                    None => chunks.push((offset, 1)),
                }
                (sample, is_apart) = (sample + 1, false);
            }
            if !is_found && size != EMPTY_SUBTITLE {
                return None;
            }
            is_apart |= !is_found;
            offset = offset.checked_add(size)?;
        }
        Some(chunks)
    }

    /// Number of samples, from this one on, that fill exactly `bytes` bytes.
    fn filling(&self, first: u64, bytes: u64) -> Option<u64> {
        if let Some(each) = self.each.map(u64::from) {
            let fits = first.checked_add(bytes / each).is_some_and(|end| end <= self.count);
            return (bytes.is_multiple_of(each) && fits).then_some(bytes / each);
        }
        let (mut left, mut sample) = (bytes, first);
        while left > 0 {
            left = left.checked_sub(self.of(sample)?)?;
            sample += 1;
        }
        // Empty samples belong to the preceding ones.
        while self.of(sample) == Some(0) {
            sample += 1;
        }
        Some(sample - first)
    }
}

/// Offset and number of samples of each chunk, read from a table.
fn chunks(table: &[u8]) -> Option<Vec<(u64, u32)>> {
    let found = boxes(table).find(|found| matches!(&found.kind, b"stco" | b"co64"))?;
    let mut fields = Fields(found.body);
    fields.u32()?;
    let count = fields.u32()?;
    let offsets: Option<Vec<u64>> =
        (0..count).map(|_| if &found.kind == b"co64" { fields.u64() } else { fields.u32().map(u64::from) }).collect();
    let mut fields = Fields(find(table, &[b"stsc"])?);
    fields.u32()?;
    let entries: Option<Vec<(u32, u32)>> = (0..fields.u32()?)
        .map(|_| {
            let entry = (fields.u32()?, fields.u32()?);
            fields.u32()?;
            Some(entry)
        })
        .collect();
    let entries = entries?;
    let count_of = |chunk: u32| entries.iter().rev().find(|(first, _)| *first <= chunk).map(|(_, count)| *count);
    (1..).zip(offsets?).map(|(chunk, offset)| Some((offset, count_of(chunk)?))).collect()
}

fn made(kind: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(body.len() + 8);
    whole.extend(u32::try_from(body.len() + 8).unwrap_or(u32::MAX).to_be_bytes());
    whole.extend(kind);
    whole.extend(body);
    whole
}

fn offset_in(at: u64, start: u64) -> io::Result<usize> {
    at.checked_sub(start).and_then(|offset| usize::try_from(offset).ok()).ok_or_else(|| wrong("the index is missing"))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, sink};

    use super::*;

    fn header(size: u32, kind: &[u8; 4]) -> Vec<u8> {
        [&size.to_be_bytes()[..], kind].concat()
    }

    fn refusal(head: Vec<u8>, fragmented: Vec<u8>) -> String {
        let index = MovIndex { tail_start: head.len() as u64, head, tail: header(8, b"moov") };
        index.write(&mut Cursor::new(fragmented), &mut sink()).expect_err("not a movie").to_string()
    }

    /// Found by fuzzing: a box of size 0 was read again and again.
    #[test]
    fn a_box_of_size_zero_ends_the_search() {
        assert!(refusal(header(0, b"free"), Vec::new()).contains("the header has no samples"));
    }

    #[test]
    fn sizes_beyond_the_file_do_not_overflow() {
        let huge = |kind: &[u8; 4], size: u64| [header(1, kind), size.to_be_bytes().to_vec()].concat();
        assert!(refusal(huge(b"mdat", u64::MAX), Vec::new()).contains("the index is missing"));
        let twice = [header(8, b"free"), huge(b"mdat", u64::MAX)].concat();
        assert!(refusal(twice.clone(), Vec::new()).contains("the header has no samples"));
        assert!(refusal(header(8, b"mdat"), twice).contains("a broken box"));
    }
}
