//! `eastwall proxy`: the data plane.

use std::path::PathBuf;
use std::process::ExitCode;

use eastwall_policy::diagnostic::Style;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::output::{complain, style};
use crate::app;
use crate::config::{Config, Settings};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eastwall proxy --mode gateway --listen 127.0.0.1:8080 --upstream 127.0.0.2:80 --policy policies/ --workloads workloads.yaml
  eastwall proxy --mode sidecar --policy /etc/eastwall/policies --workloads /etc/eastwall/workloads.yaml
  eastwall proxy --mode node --node node-1 --policy policies/ --workloads workloads.yaml --cni-socket /run/eastwall/cni.sock

The access log goes to standard output unless --access-log says otherwise, everything else to standard error
(EASTWALL_LOG=debug tells more). SIGTERM drains and ends it.

Exit codes: 0 it was told to end, 1 it could not go on, 2 unusable call.")]
pub(super) struct Proxy {
    /// Configuration file: members are the flags below in camelCase, limits under `limits`, those of tokens under
    /// `tokenLimits`, what is not redirected under `bypass`; a flag wins. Whose tokens count stands there alone, under
    /// `tokens`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Proxy {
    pub(super) fn run(&self) -> ExitCode {
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(style(&std::io::stderr()) == Style::Coloured)
            .with_env_filter(filter())
            .init();
        let config = match Config::new(&self.settings, self.config.as_deref()) {
            Ok(config) => config,
            Err(error) => {
                complain(format_args!("eastwall proxy: {error}\n\nFor more information, try `eastwall proxy --help`."));
                return ExitCode::from(2);
            }
        };
        match app::run(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(format_args!("eastwall proxy: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}

fn filter() -> EnvFilter {
    let said = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("EASTWALL_LOG")
        .from_env_lossy();
    // It warns of every watched folder that is gone, which is what each version of a controller's slice begins with.
    match "notify=error".parse() {
        Ok(directive) => said.add_directive(directive),
        Err(_) => said,
    }
}
