//! Puts a callback on an edge: it sees each frame with its detections, without a copy, and drops those without any.
//!
//! `cargo run --release -p framerail --example 02_probe_an_edge -- 'read in.mp4 ! infer centerface ! write faces.mp4'`

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use framerail::{
    Error,
    pipeline::{Diagnostics, FrameItem, RunOptions, Verdict},
};

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>().join(" ")) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a pipeline with an `infer` stage; gives the numbers of frames that were kept and dropped behind it.
pub fn run(text: &str) -> Result<(u64, u64), Error> {
    let mut plan = framerail::plan(text)?;
    plan.link()?;
    let mut planned = plan.into_graph()?;
    let edge = planned.node("infer").map(|node| node.id).and_then(|infer| planned.edges_from(infer).next());
    let Some(edge) = edge.map(|edge| edge.id) else { return Err(no_infer()) };

    let seen = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&seen);
    // Runs on the thread of `infer`: a slow callback slows that stage.
    planned.graph.probe(
        edge,
        Arc::new(move |item: &mut FrameItem| {
            counted.fetch_add(1, Ordering::Relaxed);
            if item.detections.is_empty() {
                return Verdict::Drop;
            }
            let best = item.detections.iter().map(|found| found.score).fold(0.0, f32::max);
            let (secs, index, found) = (item.frame.seconds(), item.frame.index, item.detections.len());
            println!("{secs:>9.3} s  frame {index:>5}: {found} found, best score {best:.2}");
            Verdict::Keep
        }),
    );

    let outcome = planned.graph.start(RunOptions::default())?.wait();
    outcome.result?;
    let dropped = outcome.stats.edges.iter().map(|edge| edge.dropped).sum();
    println!("{} frames seen, {dropped} dropped", seen.load(Ordering::Relaxed));
    Ok((seen.load(Ordering::Relaxed) - dropped, dropped))
}

fn no_infer() -> Error {
    let origin = framerail::pipeline::Origin::text("");
    let problem = framerail::pipeline::Diagnostic::new(&origin, None, "the pipeline has no `infer` that another stage follows");
    Error::from(Diagnostics::from(problem))
}
