//! Measures what a worker is doing and for how long. One thread writes, any thread may read.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// The activities of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    WaitInput,
    Busy,
    WaitOutput,
    Ended,
}

const PHASES: [Phase; 4] = [Phase::WaitInput, Phase::Busy, Phase::WaitOutput, Phase::Ended];

/// A worker's phase and the time spent in each.
pub(super) struct WorkerClock {
    epoch: Instant,
    phase: AtomicU8,
    since_nanos: AtomicU64,
    spent_nanos: [AtomicU64; PHASES.len()],
    /// Index of the current frame plus one; 0 when there is none.
    frame: AtomicU64,
}

impl WorkerClock {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            phase: AtomicU8::new(Phase::WaitInput as u8),
            since_nanos: AtomicU64::new(nanos(epoch.elapsed())),
            spent_nanos: Default::default(),
            frame: AtomicU64::new(0),
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        let now = nanos(self.epoch.elapsed());
        let since = self.since_nanos.swap(now, Ordering::Relaxed);
        let previous = self.phase.swap(phase as u8, Ordering::Relaxed);
        if let Some(spent) = self.spent_nanos.get(previous as usize) {
            spent.fetch_add(now.saturating_sub(since), Ordering::Relaxed);
        }
    }

    pub(super) fn set_frame(&self, index: Option<u64>) {
        self.frame.store(index.map_or(0, |index| index.saturating_add(1)), Ordering::Relaxed);
    }

    pub(super) fn frame(&self) -> Option<u64> {
        self.frame.load(Ordering::Relaxed).checked_sub(1)
    }

    pub(super) fn phase(&self) -> Phase {
        PHASES.get(self.phase.load(Ordering::Relaxed) as usize).copied().unwrap_or(Phase::Ended)
    }

    /// When the current phase began, in nanoseconds since the start of the run, and how long it has lasted.
    pub(super) fn current(&self) -> (u64, Duration) {
        let since = self.since_nanos.load(Ordering::Relaxed);
        (since, Duration::from_nanos(nanos(self.epoch.elapsed()).saturating_sub(since)))
    }

    /// Total seconds in a phase, including the current one.
    pub(super) fn seconds(&self, phase: Phase) -> f64 {
        let past = Duration::from_nanos(self.spent_nanos[phase as usize].load(Ordering::Relaxed));
        let present = if self.phase() == phase { self.current().1 } else { Duration::ZERO };
        (past + present).as_secs_f64()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// CPU seconds used by all threads of this process; 0 when unavailable.
pub(super) fn process_cpu_secs() -> f64 {
    // Fields 14 and 15 of `stat` in proc(5), in ticks of 1/100 s on every Linux; the name before them may contain spaces.
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return 0.0 };
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// Resident memory of this process in bytes; 0 when unavailable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProcessMemory {
    pub(super) now: u64,
    pub(super) peak: u64,
}

pub(super) fn process_memory_bytes() -> ProcessMemory {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return ProcessMemory::default() };
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    ProcessMemory { now: field("VmRSS:"), peak: field("VmHWM:") }
}

/// Memory of the machine, or of this process's control group, in bytes; `None` when unavailable.
pub(super) fn machine_memory_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = total.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024;
    // In a container this is the limit of its own group; without a limit the file contains the word `max`.
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    Some(group.map_or(total, |group| group.min(total)))
}
