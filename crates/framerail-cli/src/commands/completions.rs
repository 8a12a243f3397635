//! `framerail completions` and `framerail man`, generated from the command line's definition.

use std::{fs, path::PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::{
    Cli,
    exit::{CommandResult, Failure, OUTPUT},
    outputs,
};

/// Print a completion script for a shell
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
        outputs::print(&String::from_utf8_lossy(&script))
    }
}

/// Print the manual page, or write one per command into a folder
#[derive(Args, Debug)]
pub struct ManCommand {
    /// Folder for framerail.1, framerail-run.1 and so on; created if it is missing
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl ManCommand {
    /// Prints or writes the pages.
    pub fn execute(&self) -> CommandResult {
        let Some(folder) = &self.folder else {
            let mut page = Vec::new();
            let written = Man::new(Cli::command()).render(&mut page);
            written.map_err(|error| Failure::new(OUTPUT, format_args!("cannot make the manual page: {error}")))?;
            return outputs::print(&String::from_utf8_lossy(&page));
        };
        let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
        written.map_err(|error| Failure::new(OUTPUT, format_args!("{}: cannot write manual pages: {error}", folder.display())))
    }
}
