//! The `eastwall-controller` command.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use eastwall_controller::{Config, run};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let config = Config::parse();
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    // What becomes of a watch the controller tells itself.
    let filter = std::env::var("EASTWALL_LOG").unwrap_or_else(|_| "info,kube_client=off,kube_runtime=off".to_owned());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !is_plain)
        .with_env_filter(tracing_subscriber::EnvFilter::new(&filter))
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&config)),
        Err(error) => Err(format!("threads cannot be made: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(std::io::stderr().lock(), "eastwall-controller: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// It waits more than it works; what computes long has threads of its own.
const WORKERS: usize = 2;
