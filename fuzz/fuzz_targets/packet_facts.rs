//! Headers of any packet of any codec are read: NAL units, OBUs, MPEG start codes. First byte: codec; second: length of the
//! global headers; packets are split at `0xA5 0x5A`.
#![no_main]

use framerail_media::FactsReader;
use libfuzzer_sys::fuzz_target;

const CODECS: [&str; 8] = ["h264", "hevc", "mpeg2video", "mpeg4", "vp8", "vp9", "av1", "prores"];

fuzz_target!(|bytes: &[u8]| {
    let [codec, length, rest @ ..] = bytes else { return };
    let (headers, mut packets) = rest.split_at(usize::from(*length).min(rest.len()));
    let codec = CODECS[usize::from(*codec) % CODECS.len()];
    let mut reader = FactsReader::for_codec(codec, headers).expect("the codec is known");
    loop {
        let end = packets.windows(2).position(|pair| pair == [0xA5, 0x5A]);
        reader.read_bytes(&packets[..end.unwrap_or(packets.len())]);
        match end {
            Some(end) => packets = &packets[end + 2..],
            None => break,
        }
    }
});
