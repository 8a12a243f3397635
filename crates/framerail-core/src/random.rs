//! Random numbers that are identical across versions and machines: the sequence of a seed is part of the public interface.

/// SplitMix64: 64 bits of state, 64 bits per draw.
///
/// Source: Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014; the constants are those of the
/// public-domain reference by S. Vigna. Not cryptographically secure.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mixed(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl SplitMix64 {
    /// Creates the generator for a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Creates a generator for a seed and some numbers, such as epoch, file and clip: each combination has a separate sequence.
    ///
    /// The state starts as `s = seed`; for each number, `s = mix(s + GAMMA) ^ mix(number + 2·GAMMA)`, wrapping.
    pub fn of(seed: u64, numbers: &[u64]) -> Self {
        let step = |state: u64, number: &u64| mixed(state.wrapping_add(GAMMA)) ^ mixed(number.wrapping_add(GAMMA.wrapping_mul(2)));
        Self(numbers.iter().fold(seed, step))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mixed(self.0)
    }

    /// The next number in [0, 1), from the upper 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The next number from `low` to `high`. Draws one number even when they are equal.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        (low + (high - low) * self.unit()).min(high)
    }

    /// The next integer below `end`: the upper half of the 128-bit product of a draw and `end`. 0 when `end` is 0.
    ///
    /// The bias is below `end / 2^64`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// Returns true with this probability: whether the next [`SplitMix64::unit`] is below it.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut random = SplitMix64::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423, 4_593_380_528_125_082_431];
        assert_eq!([(); 4].map(|()| random.next_u64()), expected);
    }

    #[test]
    fn draws_stay_in_their_ranges() {
        let mut random = SplitMix64::new(7);
        for end in 1..2000 {
            assert!(random.below(end) < end);
            assert!((0.0..1.0).contains(&random.unit()));
            assert!((-2.5..=3.5).contains(&random.between(-2.5, 3.5)));
        }
        assert_eq!((random.below(0), random.between(4.0, 4.0)), (0, 4.0));
        assert!(!random.chance(0.0) && random.chance(1.0));
    }

    #[test]
    fn every_combination_of_numbers_has_its_own_sequence() {
        let firsts: std::collections::HashSet<u64> = (0..20)
            .flat_map(|seed| (0..20).map(move |clip| [seed, clip]))
            .flat_map(|[seed, clip]| [SplitMix64::of(seed, &[clip]), SplitMix64::of(seed, &[clip, 0]), SplitMix64::of(seed, &[0, clip])])
            .map(|mut random| random.next_u64())
            .collect();
        // (seed, 0, 0) occurs twice for each seed.
        assert_eq!(firsts.len(), 3 * 400 - 20);
        assert_eq!(SplitMix64::of(9, &[]).next_u64(), SplitMix64::new(9).next_u64());
    }

    #[test]
    fn draws_spread_evenly() {
        let mut random = SplitMix64::of(0, &[1]);
        let mut bins = [0_u32; 10];
        for _ in 0..10_000 {
            bins[random.below(10) as usize] += 1;
        }
        assert!(bins.iter().all(|count| (880..1120).contains(count)), "{bins:?}");
    }
}
