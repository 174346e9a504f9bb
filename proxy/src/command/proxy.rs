//! `eastwall proxy`: the data plane.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::app;
use crate::config::{Config, Settings};

/// Run the data plane: accept connections, judge them, forward what is allowed
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eastwall proxy --mode gateway --listen 127.0.0.1:8080 --upstream 127.0.0.2:80 --policy policies/ --workloads workloads.yaml
  eastwall proxy --mode sidecar --policy /etc/eastwall/policies --workloads /etc/eastwall/workloads.yaml")]
pub(super) struct Proxy {
    /// Configuration file: members are the flags below in camelCase, limits under `limits`, what is not redirected under
    /// `bypass`; a flag wins
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Proxy {
    pub(super) fn run(&self) -> ExitCode {
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_env_filter(
                tracing_subscriber::EnvFilter::builder()
                    .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
                    .with_env_var("EASTWALL_LOG")
                    .from_env_lossy(),
            )
            .init();
        let config = match Config::new(&self.settings, self.config.as_deref()) {
            Ok(config) => config,
            Err(error) => {
                eprintln!("eastwall proxy: {error}\n\nFor more information, try `eastwall proxy --help`.");
                return ExitCode::from(2);
            }
        };
        match app::run(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("eastwall proxy: {error}");
                ExitCode::FAILURE
            }
        }
    }
}
