//! Times a model with settings of ONNX Runtime: `model_speed [size=1280x736] [workers=1] [threads=1] [spin=0] [arena=1]
//! [pattern=0] [plain=0] [runs=24] [KEY=VALUE of ONNX Runtime ...]`. Prints wall and CPU time a frame, and peak memory.

use std::{error::Error, time::Instant};

use framerail_infer::{
    CardFile, InputSize, Runtime, SearchPath, SizeRequest,
    onnx::{InputShape, OnnxFile},
    session::{ModelSession, SessionOptions},
};

fn main() -> Result<(), Box<dyn Error>> {
    let search = SearchPath::from_env();
    let (mut size, mut workers, mut runs, mut plain) = (InputSize { width: 1280, height: 736 }, 1_usize, 24_usize, false);
    let mut options = SessionOptions::default();
    for argument in std::env::args().skip(1) {
        let (key, value) = argument.split_once('=').ok_or("give KEY=VALUE")?;
        match key {
            "size" => match value.parse()? {
                SizeRequest::Exact(exact) => size = exact,
                _ => return Err("give size=WIDTHxHEIGHT".into()),
            },
            "workers" => workers = value.parse()?,
            "runs" => runs = value.parse()?,
            "plain" => plain = value == "1",
            "threads" => options.intra_threads = value.parse()?,
            "spin" => options.spin = value == "1",
            "arena" => options.arena = value == "1",
            "pattern" => options.memory_pattern = value == "1",
            _ => options.config_entries.push((key.to_owned(), value.to_owned())),
        }
    }
    let card = CardFile::find("centerface", &search)?.card;
    let path = search.model_files(&card.file, None).into_iter().find(|path| path.is_file()).ok_or("run `make setup` first")?;
    let runtime = Runtime::load(None, &search)?;
    let mut sessions = Vec::new();
    for _ in 0..workers {
        let file = OnnxFile::read(&path)?;
        let name = file.inputs().first().ok_or("the model has no input")?.name.clone();
        let fixed = [1, 3, u64::from(size.height), u64::from(size.width)];
        let shape = InputShape { name: name.clone(), dims: fixed.map(Some).to_vec() };
        let open = InputShape { name, dims: vec![None; 4] };
        let outputs = card.output.output_names();
        let bytes = if plain { file.resized(&open)? } else { file.prepared(std::slice::from_ref(&shape), &outputs)? };
        drop(file);
        let mut session = ModelSession::new(runtime, &bytes, &card.name, shape, 1, &options)?;
        session.write_input(0, |input| input.iter_mut().enumerate().for_each(|(index, element)| *element = (index * 7919 % 256) as f32));
        sessions.push(session);
    }
    run_all(&mut sessions, 2)?;
    let (start, cpu) = (Instant::now(), cpu_millis());
    run_all(&mut sessions, runs)?;
    let frames = (runs * workers) as f64;
    println!(
        "{size} workers={workers} threads={} spin={} arena={} pattern={} plain={plain}: {:.1} ms a frame, {:.1} ms of CPU, peak {} MB",
        options.intra_threads,
        options.spin,
        options.arena,
        options.memory_pattern,
        start.elapsed().as_secs_f64() * 1000.0 / frames,
        (cpu_millis() - cpu) / frames,
        peak_kib() / 1024,
    );
    Ok(())
}

fn run_all(sessions: &mut [ModelSession], runs: usize) -> Result<(), Box<dyn Error>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            sessions.iter_mut().map(|session| scope.spawn(move || (0..runs).try_for_each(|_| session.run(1, |_| Ok(()))))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a worker panicked")?.map_err(Into::into))
    })
}

/// User and system time of this process, from Linux's `/proc/self/stat` at its fixed 100 ticks a second.
fn cpu_millis() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}
