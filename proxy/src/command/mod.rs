//! The command line, one file a subcommand.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic where nobody reads: see `output`")]

mod check;
mod compile;
mod completions;
mod decide;
mod demo;
mod diff;
mod documents;
mod explain;
mod inject;
mod output;
mod proxy;
mod reach;
mod redirect;
mod schema;
mod suggest;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "eastwall",
    version,
    about = "A Layer-7 firewall for the traffic between pods",
    after_help = "Answers go to standard output; what is wrong with a call or a document, and progress, to standard error. Colours are for
terminals alone, and not where NO_COLOR is set.

Exit codes: 0 fine, 1 the answer is no, 2 unusable call or documents, 3 (diff, reach) something is undecided.

Examples:
  eastwall demo                                                    see it work on this machine
  eastwall check policies/ --workloads workloads.yaml              is anything wrong with them?
  eastwall test policies/                                          do they do what we expect?
  eastwall diff main/policies branch/policies                      what does a change open?
  eastwall suggest access.log --workloads workloads.yaml           what would the recorded traffic need?"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// Arguments are built for the command that is called alone. A doc comment on arguments that commands share would stand in the place of the
// command's own description then.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    /// Judge requests offline: JSON lines in, one JSON verdict a line out
    Decide(decide::Decide),
    /// Tell why a request is judged as it is, and what would have allowed it
    Explain(explain::Explain),
    /// Tell by meaning what a change of policies opens and closes, each with a request that shows it
    Diff(diff::Diff),
    /// Tell who can reach whom, on which ports and with which requests
    Reach(reach::Reach),
    /// Write the least-privilege policy that recorded traffic needs
    Suggest(suggest::Suggest),
    /// Run the policy tests (kind: PolicyTest) among these files
    Test(test::Test),
    /// Read policies and tell what is wrong with them
    Check(check::Check),
    /// Build the lookup table of policies, as the proxy does
    Compile(compile::Compile),
    /// Print the JSON Schema of a native kind, for editors, or its CustomResourceDefinition
    Schema(schema::Schema),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Run the data plane: accept connections, judge them, forward what is allowed
    Proxy(Box<proxy::Proxy>),
    /// Show on this machine what Eastwall does: three pods, one of them compromised
    Demo(demo::Demo),
    /// Make, remove or show the rules that bring a pod's traffic to the proxy
    Redirect(Box<redirect::Redirect>),
    /// Put the sidecar into Kubernetes objects
    Inject(Box<inject::Inject>),
}

/// Reads the command line and runs what it says. Exit codes: 0 fine, 1 the answer is no, 2 unusable call.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Decide(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Diff(command) => command.run(),
        Command::Reach(command) => command.run(),
        Command::Suggest(command) => command.run(),
        Command::Test(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Compile(command) => command.run(),
        Command::Schema(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Proxy(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Redirect(command) => command.run(),
        Command::Inject(command) => command.run(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn every_subcommand_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
