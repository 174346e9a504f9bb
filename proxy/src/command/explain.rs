//! `eastwall explain --request JSON`: why a request is judged as it is.

use std::process::ExitCode;

use eastwall_policy::analysis::explain::explain;
use eastwall_policy::flow::Question;

use super::check::Format;
use super::documents::{Documents, now};

/// Tell why a request is judged as it is, and what would have allowed it
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 the request is allowed, 1 it is denied or rejected, 2 unusable call.

Examples:
  eastwall explain --policy policies/ --workloads workloads.yaml \\
    --request '{\"src\": {\"ip\": \"10.0.0.3\"}, \"dst\": {\"workload\": \"shop/orders\", \"port\": 8080}, \"method\": \"DELETE\", \"path\": \"/orders/7\"}'")]
pub(super) struct Explain {
    #[command(flatten)]
    documents: Documents,
    /// The request, with the members of a line of `eastwall decide`
    #[arg(long, value_name = "JSON")]
    request: String,
    /// How the account is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Explain {
    pub(super) fn run(&self) -> ExitCode {
        let world = match self.documents.world() {
            Ok(world) => world,
            Err(code) => return code,
        };
        let account = Question::parse(&self.request).and_then(|question| explain(&world, &question, now()));
        let account = match account {
            Ok(account) => account,
            Err(error) => {
                eprintln!("error: request: {error}");
                return ExitCode::from(2);
            }
        };
        match self.format {
            Format::Text => print!("{account}"),
            Format::Json => match serde_json::to_string_pretty(&account) {
                Ok(json) => println!("{json}"),
                Err(error) => {
                    eprintln!("error: {error}");
                    return ExitCode::from(2);
                }
            },
        }
        if account.answer.verdict == eastwall_policy::verdict::Action::Allow {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(1)
        }
    }
}
