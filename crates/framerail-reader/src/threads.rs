//! Threads for decoding one video.

use framerail_media::Input;

/// FFmpeg's threads per core for decoders that are fewer than the cores. Frame threads wait for parts of the frames that theirs refer to,
/// so one per core leaves cores idle: with 2 to 8 decoders on 16 cores, three are 10 to 30% faster (H.264, HEVC, VP9).
const THREADS_PER_CORE: usize = 3;
/// Number of cores from which a decoder alone is faster with two threads per core: by 8 to 13% on 16 cores.
const MANY_CORES: usize = 8;
const MAX_DECODER_THREADS: usize = 32;

/// Cores and threads for the decoders of one video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Threads {
    /// Decoders that may work at once.
    pub(crate) cores: usize,
    /// Maximum sum of the decoders' threads, if they are fewer than the cores.
    most: usize,
}

impl Threads {
    /// A limit for both.
    pub(crate) fn limited(threads: usize) -> Self {
        Self { cores: threads, most: threads }
    }

    /// `asked` threads at most; 0: all cores, with as many threads as the codec's decoder makes use of.
    pub(crate) fn of(asked: usize, input: &Input) -> Self {
        if asked > 0 { Self::limited(asked) } else { Self::all(default_threads(), input.has_frame_threads()) }
    }

    fn all(cores: usize, has_frame_threads: bool) -> Self {
        Self { cores, most: if has_frame_threads { cores * THREADS_PER_CORE } else { cores } }
    }

    /// Threads for each of several decoders.
    pub(crate) fn each(self, decoders: usize) -> usize {
        let decoders = decoders.max(1);
        if decoders >= self.cores { 1 } else { self.cores.div_ceil(decoders).max(self.most / decoders).min(MAX_DECODER_THREADS) }
    }

    /// Threads for a single decoder: one more than cores, as in FFmpeg, because one waits while its frame is taken.
    pub(crate) fn alone(self) -> usize {
        match self.cores {
            0 | 1 => 1,
            cores if cores >= MANY_CORES && self.most > cores => (2 * cores).min(MAX_DECODER_THREADS),
            cores => (cores + 1).min(MAX_DECODER_THREADS),
        }
    }

    /// Number of decoders, and of threads per decoder, for GOPs of these numbers of pixels decoded in parallel.
    pub(crate) fn among(self, groups: usize) -> (usize, usize) {
        let decoders = groups.min(self.cores).max(1);
        (decoders, (self.cores / decoders).clamp(1, MAX_DECODER_THREADS))
    }
}

/// Default number of decoding threads.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_decoders_have_several_threads_per_core() {
        let all = Threads::all(16, true);
        let each = [1, 2, 8, 11, 15, 16, 40].map(|decoders| all.each(decoders));
        assert_eq!(each, [32, 24, 6, 4, 3, 1, 1]);
        assert_eq!((Threads::all(2, true).each(1), Threads::all(2, true).each(2)), (6, 1));
        assert_eq!([1, 2, 4, 16, 64].map(|cores| Threads::all(cores, true).alone()), [1, 3, 5, 32, 32]);
    }

    #[test]
    fn limits_and_decoders_without_frame_threads_have_one_thread_per_core() {
        for threads in [Threads::limited(16), Threads::all(16, false)] {
            assert_eq!([2, 8, 15, 16].map(|decoders| threads.each(decoders)), [8, 2, 2, 1]);
            assert_eq!(threads.alone(), 17);
        }
        assert_eq!((Threads::limited(16).among(3), Threads::limited(4).among(9)), ((3, 5), (4, 1)));
    }
}
