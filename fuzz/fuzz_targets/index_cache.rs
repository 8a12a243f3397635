//! Any bytes are read as a cached frame index or refused; an index that was read is written as bytes that read back equal.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(written) = framerail_reader::fuzzing::rewrite_index(bytes) {
        let again = framerail_reader::fuzzing::rewrite_index(&written);
        assert_eq!(again.as_ref(), Some(&written), "a written index reads back equal");
    }
});
