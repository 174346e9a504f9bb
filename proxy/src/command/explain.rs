//! `eastwall explain`: why a request is judged as it is, or why a proxy refused one.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use eastwall_policy::analysis::explain::explain;
use eastwall_policy::flow::Question;

use super::check::Format;
use super::documents::{Documents, now};
use super::output::{complain, print};
use crate::admin::{SocketPath, client};
use crate::observe::DecisionId;

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 the request is allowed, 1 it is denied or rejected, 2 unusable call.
With a DECISION_ID: 0 it is explained, 1 the proxy does not hold it, 2 unusable call.

Examples:
  eastwall explain --policy policies/ --workloads workloads.yaml \\
    --request '{\"src\": {\"ip\": \"10.0.0.3\"}, \"dst\": {\"workload\": \"shop/orders\", \"port\": 8080}, \"method\": \"DELETE\", \"path\": \"/orders/7\"}'")]
pub(super) struct Explain {
    #[command(flatten)]
    documents: Documents,
    /// The request, with the members of a line of `eastwall decide`
    #[arg(long, value_name = "JSON", required_unless_present = "decision")]
    request: Option<String>,
    /// The id that a refused client was given (`x-eastwall-decision-id`)
    #[arg(value_name = "DECISION_ID", conflicts_with = "request")]
    decision: Option<String>,
    /// Admin socket of the proxy that refused [default: where a proxy of this user has it]
    #[arg(long, value_name = "SOCKET", requires = "decision")]
    admin: Option<PathBuf>,
    /// How the account is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Explain {
    pub(super) fn run(&self) -> ExitCode {
        match (&self.decision, &self.request) {
            (Some(id), _) => self.decision(id),
            (None, Some(request)) => self.request(request),
            (None, None) => ExitCode::from(2),
        }
    }

    /// Asks the proxy that refused.
    fn decision(&self, id: &str) -> ExitCode {
        let socket = self.admin.clone().unwrap_or_else(|| SocketPath::Default.path());
        if DecisionId::parse(id).is_none() {
            complain(format_args!("error: `{id}` is no decision id: it has 32 hexadecimal digits"));
            return ExitCode::from(2);
        }
        let answer = match client::ask(&socket, "GET", &format!("/explain/{id}")) {
            Ok(answer) => answer,
            Err(error) => {
                complain(format_args!("error: cannot ask the proxy at `{}`: {error}", socket.display()));
                return ExitCode::from(2);
            }
        };
        if answer.status != 200 {
            complain(answer.body.trim_end());
            return ExitCode::from(1);
        }
        let printed = match self.format {
            Format::Json => print(answer.body),
            Format::Text => print(told(&answer.body)),
        };
        printed.err().unwrap_or(ExitCode::SUCCESS)
    }

    fn request(&self, request: &str) -> ExitCode {
        let world = match self.documents.world() {
            Ok(world) => world,
            Err(code) => return code,
        };
        let account = Question::parse(request).and_then(|question| explain(&world, &question, now()));
        let account = match account {
            Ok(account) => account,
            Err(error) => {
                complain(format_args!("error: request: {error}"));
                return ExitCode::from(2);
            }
        };
        let printed = match self.format {
            Format::Text => print(&account),
            Format::Json => print(format_args!("{:#}\n", serde_json::json!(account))),
        };
        let is_allowed = account.answer.verdict == eastwall_policy::verdict::Action::Allow;
        printed.err().unwrap_or(if is_allowed { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// What was logged, member by member, then what the table in force says.
fn told(body: &str) -> String {
    let answer: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let mut text = String::new();
    for (name, value) in answer.get("decision").and_then(|decision| decision.as_object()).into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<28} {value}");
    }
    let account = answer.get("text").and_then(|text| text.as_str()).unwrap_or_default();
    text + "\nThe same request by the table in force (headers and query are not kept):\n" + account
}
