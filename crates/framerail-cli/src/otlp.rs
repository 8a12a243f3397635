//! `--otlp`: metrics and traces of a run for OpenTelemetry.

use clap::Args;
use framerail::pipeline::{OtlpDescription, PlannedGraph, RunSwitch};

use crate::exit::Failure;

/// Options of exporting to OpenTelemetry; nothing is exported by default.
#[derive(Args, Clone, Debug, Default)]
pub struct OtlpArgs {
    /// Export metrics, and traces of single frames, to the OpenTelemetry collector at this URL (OTLP over HTTP), such as http://localhost:4318; `env` = the URL in OTEL_EXPORTER_OTLP_ENDPOINT
    #[arg(long = "otlp", value_name = "URL", help_heading = "Monitoring")]
    endpoint: Option<String>,
    /// Trace every Nth frame of the sources; 0 = none; default: the pipeline file's, or 100
    #[arg(long = "otlp-trace", value_name = "N", help_heading = "Monitoring")]
    trace_every: Option<u64>,
    /// Time between two exports of metrics; default: the pipeline file's, or 10
    #[arg(long = "otlp-interval", value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..=3600), help_heading = "Monitoring")]
    interval: Option<u64>,
}

#[cfg(feature = "otlp")]
pub use exporting::Otlp;

#[cfg(feature = "otlp")]
mod exporting {
    use framerail::otlp::OtlpOptions;

    use super::{Failure, OtlpArgs, OtlpDescription, PlannedGraph, RunSwitch};
    use crate::exit::{USAGE, code_of};

    /// An export of a run that is about to start.
    pub struct Otlp(framerail::otlp::Otlp);

    /// An export of a running pipeline.
    pub struct Exporting(framerail::otlp::Exporting);

    fn failed(error: framerail::pipeline::StageError) -> Failure {
        Failure::new(code_of(error.kind), error.message)
    }

    impl Otlp {
        /// `None` without `--otlp` and `[otlp]` of the pipeline file.
        ///
        /// # Errors
        /// `USAGE` for a wrong URL or wrong headers in the environment.
        pub fn prepare(args: &OtlpArgs, file: Option<&OtlpDescription>, planned: &mut PlannedGraph) -> Result<Option<Self>, Failure> {
            let Some(options) = OtlpOptions::of(args.endpoint.as_deref(), args.trace_every, args.interval, file) else {
                let is_alone = args.trace_every.or(args.interval).is_some();
                let problem = || Failure::new(USAGE, "--otlp-trace and --otlp-interval need --otlp, or `[otlp]` in the pipeline file");
                return if is_alone { Err(problem()) } else { Ok(None) };
            };
            framerail::otlp::Otlp::prepare(&options, planned).map(|otlp| Some(Self(otlp))).map_err(failed)
        }

        /// # Errors
        /// `RESOURCE` without a thread.
        pub fn export(self, run: RunSwitch) -> Result<Exporting, Failure> {
            self.0.export(run).map(Exporting).map_err(failed)
        }
    }

    impl Exporting {
        /// Sends the rest, and warns of what was dropped.
        pub fn finish(self) {
            let dropped = self.0.finish();
            if dropped > 0 {
                log::warn!("otlp: {dropped} traces and sets of metrics were dropped, because the collector was away or slow");
            }
        }
    }
}

#[cfg(not(feature = "otlp"))]
pub use without::Otlp;

#[cfg(not(feature = "otlp"))]
mod without {
    use super::{Failure, OtlpArgs, OtlpDescription, PlannedGraph, RunSwitch};
    use crate::exit::USAGE;

    /// What this build does not have.
    pub enum Otlp {}
    /// What this build does not have.
    pub enum Exporting {}

    impl Otlp {
        /// # Errors
        /// `USAGE` with `--otlp` or `[otlp]`.
        pub fn prepare(args: &OtlpArgs, file: Option<&OtlpDescription>, _: &mut PlannedGraph) -> Result<Option<Self>, Failure> {
            match args.endpoint.is_some() || file.is_some() {
                false => Ok(None),
                true => Err(Failure::new(USAGE, "this build has no OpenTelemetry; build with `--features otlp`")),
            }
        }

        /// # Errors
        /// None.
        pub fn export(self, _: RunSwitch) -> Result<Exporting, Failure> {
            match self {}
        }
    }

    impl Exporting {
        /// Does nothing.
        pub fn finish(self) {
            match self {}
        }
    }
}
