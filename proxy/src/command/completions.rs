//! `eastwall completions SHELL`: a completion script for a shell.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eastwall completions bash > /etc/bash_completion.d/eastwall
  eastwall completions zsh > ~/.zfunc/_eastwall")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> ExitCode {
        clap_complete::generate(self.shell, &mut super::Cli::command(), "eastwall", &mut std::io::stdout());
        ExitCode::SUCCESS
    }
}
