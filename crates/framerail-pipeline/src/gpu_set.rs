//! A set of CUDA devices that share the work.

use std::{fmt, str::FromStr};

use framerail_core::CoreError;

/// Highest allowed device number, plus one.
const MAX_CARDS: u32 = 64;

/// Two or more CUDA devices, such as `cuda:0,1`, or all devices of the machine: `cuda:all`. Stages that use a single device get all frames
/// on the first one named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GpuSet {
    /// Every device of the machine.
    All,
    /// Devices by number.
    Listed {
        /// The first device named.
        first: u32,
        /// All devices as a bit mask: bit N is device N.
        mask: u64,
    },
}

impl GpuSet {
    /// Device numbers on a machine with `count` devices; the first one named comes first.
    pub fn ordinals(self, count: u32) -> Vec<u32> {
        match self {
            GpuSet::All => (0..count.min(MAX_CARDS)).collect(),
            GpuSet::Listed { first, mask } => {
                let others = (0..MAX_CARDS).filter(|ordinal| *ordinal != first && mask & (1 << ordinal) != 0);
                std::iter::once(first).chain(others).collect()
            }
        }
    }
}

impl fmt::Display for GpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GpuSet::All => f.write_str("cuda:all"),
            GpuSet::Listed { .. } => {
                let listed: Vec<String> = self.ordinals(MAX_CARDS).iter().map(u32::to_string).collect();
                write!(f, "cuda:{}", listed.join(","))
            }
        }
    }
}

impl FromStr for GpuSet {
    type Err = CoreError;

    fn from_str(text: &str) -> Result<Self, CoreError> {
        let unknown = || CoreError::UnknownDevice { given: text.to_owned() };
        let listed = text.strip_prefix("cuda:").ok_or_else(unknown)?;
        if listed == "all" {
            return Ok(GpuSet::All);
        }
        let ordinals = listed.split(',').map(|part| part.trim().parse::<u32>().ok().filter(|ordinal| *ordinal < MAX_CARDS));
        let ordinals = ordinals.collect::<Option<Vec<u32>>>().ok_or_else(unknown)?;
        let first = *ordinals.first().ok_or_else(unknown)?;
        let mask = ordinals.iter().fold(0_u64, |mask, ordinal| mask | 1 << ordinal);
        if mask.count_ones() as usize != ordinals.len() {
            return Err(unknown());
        }
        Ok(GpuSet::Listed { first, mask })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_read_back_as_written_and_keep_the_first_device_first() {
        for (text, ordinals) in [("cuda:0,1", vec![0, 1]), ("cuda:3,0,2", vec![3, 0, 2]), ("cuda:all", vec![0, 1, 2, 3])] {
            let set: GpuSet = text.parse().expect("a set");
            assert_eq!((set.to_string(), set.ordinals(4)), (text.to_owned(), ordinals));
        }
        for wrong in ["cuda:", "cuda:0,", "cuda:0,0", "cuda:64", "cpu:0,1", "0,1", "cuda:a"] {
            assert!(wrong.parse::<GpuSet>().is_err(), "{wrong}");
        }
    }
}
