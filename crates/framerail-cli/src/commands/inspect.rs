//! `framerail inspect`.

use clap::Args;
use framerail::pipeline::StageList;

use crate::{
    exit::{CommandResult, Failure, INTERNAL, USAGE},
    outputs,
};

/// List the stages, or show one with its options and examples
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  framerail inspect\n  framerail inspect blur\n  framerail inspect --json")]
pub struct InspectCommand {
    /// The stage to show; without it, all stages are listed
    stage: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl InspectCommand {
    /// Prints the descriptions of the stages.
    pub fn execute(&self) -> CommandResult {
        let registry = framerail::registry();
        let as_json = |text: serde_json::Result<String>| {
            text.map(|text| text + "\n").map_err(|error| Failure::new(INTERNAL, format_args!("cannot write JSON: {error}")))
        };
        let Some(name) = &self.stage else {
            let stages = StageList::new(&registry);
            return outputs::print(&if self.json { as_json(stages.json())? } else { stages.text() });
        };
        let Some(stage) = registry.get(name) else {
            let hint = match registry.suggest(name) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`framerail inspect` lists them".to_owned(),
            };
            return Err(Failure::new(USAGE, format_args!("there is no stage called `{name}`; {hint}")));
        };
        outputs::print(&if self.json { as_json(stage.spec.json())? } else { stage.spec.text() })
    }
}
