//! The summary at the end of a run.

use framerail::pipeline::RunStats;

use crate::exit::Failure;

/// Counters of damaged input.
const DAMAGE: [&str; 13] = [
    "packets_corrupt",
    "packets_dropped",
    "packets_lost",
    "container_errors",
    "frames_repaired",
    "frames_lost",
    "frames_dropped",
    "timestamps_repaired",
    "decode_errors",
    "packets_undecoded",
    "images_missing",
    "sources_ended_early",
    "streams_failed",
];

/// Counters of unsent output.
const NOT_SENT: [&str; 2] = ["frames_not_sent", "packets_not_sent"];

/// Values known before a run rather than counted in it.
const NOT_SHOWN: [&str; 1] = ["frames_expected"];

/// The table of stages, a line of counters for each stage that has any, and frames dropped on edges.
pub fn table(stats: &RunStats) -> String {
    let mut text = stats.table();
    for stage in &stats.stages {
        let parts = stage.words_without(&NOT_SHOWN);
        if !parts.is_empty() {
            text += &format!("{}: {}\n", stage.name, parts.join(", "));
        }
    }
    for edge in stats.edges.iter().filter(|edge| edge.dropped > 0) {
        text += &format!("{} to {}: {} frames dropped\n", edge.from, edge.to, edge.dropped);
    }
    text
}

/// Damage of the inputs as text; `None` if there was none.
pub fn damage(stats: &RunStats) -> Option<String> {
    counted(stats, &DAMAGE)
}

/// The non-zero counters among these, as text.
fn counted(stats: &RunStats, names: &[&str]) -> Option<String> {
    let counts = names.iter().map(|name| (name, stats.counter(name)));
    let parts: Vec<String> =
        counts.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{} {count}", name.replace('_', " "))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Fails a run with damaged input or unsent output, under `--strict`.
///
/// # Errors
/// `DAMAGED` with the counts.
pub fn check_strict(strict: bool, stats: &RunStats) -> Result<(), Failure> {
    let damage = damage(stats).map(|counts| format!("the input was damaged: {counts}"));
    let not_sent = counted(stats, &NOT_SENT).map(|counts| format!("not everything could be sent: {counts}"));
    let losses: Vec<String> = damage.into_iter().chain(not_sent).collect();
    if strict && !losses.is_empty() { Err(Failure::damaged(losses.join("; "))) } else { Ok(()) }
}
