//! `framerail completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{Cli, exit::CommandResult, terminal};

/// Print a script that completes commands and options in a shell
#[derive(Args, Debug)]
pub struct CompletionsCommand {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsCommand {
    /// Prints the script.
    pub fn execute(&self) -> CommandResult {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "framerail", &mut script);
        terminal::print(&String::from_utf8_lossy(&script))
    }
}
