//! A damaged fragmented MP4 is made into an ordinary one or refused. The first two bytes give the length of the index.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [high, low, rest @ ..] = bytes else { return };
    let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
    let (index, fragments) = rest.split_at(length);
    let head = index.len() / 2;
    framerail_media::fuzzing::join_fragments(&index[..head], &index[head..], fragments);
});
