//! `eastwall completions SHELL`: a completion script for a shell.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 printed, 2 unusable call.

Examples:
  eastwall completions bash > /etc/bash_completion.d/eastwall
  eastwall completions zsh > ~/.zfunc/_eastwall")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Cli::command(), "eastwall", &mut script);
        output::print(String::from_utf8_lossy(&script)).err().unwrap_or(ExitCode::SUCCESS)
    }
}
