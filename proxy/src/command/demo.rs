//! `eastwall demo`: the whole thing on one machine, no cluster, no configuration.

mod client;
mod narrator;
mod pods;
mod process;
mod server;
mod story;

use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use narrator::Narrator;
use pods::Pods;
use process::Proxy;

use super::output::complain;

#[derive(Debug, clap::Args)]
#[command(after_help = "With root (and the `ip` and `nft` commands) the pods are network namespaces and the traffic is
intercepted on its way; without, the same story runs on loopback addresses in gateway mode.

Exit codes: 0 everything went as it should, 1 something did not.

Examples:
  eastwall demo
  eastwall demo --keep        leave it running to try it by hand, until Ctrl-C
  eastwall demo --loopback    the story without privileges, even as root")]
pub(super) struct Demo {
    /// Leave everything running after the story, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Use loopback addresses and gateway mode, even as root
    #[arg(long)]
    loopback: bool,
}

impl Demo {
    pub(super) fn run(&self) -> ExitCode {
        let narrator = Narrator::new();
        let teardown = Teardown::default();
        if let Err(error) = teardown.on_signal() {
            complain(format_args!("error: cannot wait for signals: {error}"));
            return ExitCode::FAILURE;
        }
        let told = self.tell(&narrator, &teardown);
        teardown.run();
        match told {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => {
                complain(format_args!("error: something above is not as it should be"));
                ExitCode::FAILURE
            }
            Err(error) => {
                complain(format_args!("error: {error}"));
                ExitCode::FAILURE
            }
        }
    }

    fn tell(&self, narrator: &Narrator, teardown: &Teardown) -> io::Result<bool> {
        let pods = match (self.loopback, pods::namespaces_available()) {
            (false, Ok(())) => Pods::in_namespaces(teardown)?,
            (false, Err(why)) => {
                narrator.aside(&format!("{why}: the same story on loopback addresses, in gateway mode"));
                Pods::on_loopback()?
            }
            (true, _) => Pods::on_loopback()?,
        };
        let folder = tempfile_folder(teardown)?;
        let proxy = Proxy::start(&pods, &folder, teardown)?;
        let fine = story::tell(narrator, &pods, &proxy)?;
        if self.keep {
            story::invite(narrator, &pods, &proxy);
            loop {
                std::thread::park();
            }
        }
        Ok(fine)
    }
}

fn tempfile_folder(teardown: &Teardown) -> io::Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("eastwall-demo-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    teardown.add(Step::Folder(folder.clone()));
    Ok(folder)
}

/// What is undone at the end, last first, on Ctrl-C and on failure too.
#[derive(Clone, Debug, Default)]
struct Teardown(Arc<Mutex<Vec<Step>>>);

/// One thing to undo.
#[derive(Debug)]
enum Step {
    /// End this process and wait for it.
    Process(std::process::Child),
    /// Delete this network namespace, and with it its links and rules.
    Namespace(String),
    /// Remove this folder.
    Folder(std::path::PathBuf),
}

impl Teardown {
    fn add(&self, step: Step) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }

    fn run(&self) {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(step) = steps.pop() {
            let undone = match step {
                Step::Process(child) => process::end(child),
                Step::Namespace(name) => pods::delete_namespace(&name),
                Step::Folder(path) => std::fs::remove_dir_all(path),
            };
            if let Err(error) = undone {
                complain(format_args!("warning: could not clean up: {error}"));
            }
        }
    }

    /// Cleans up and exits on SIGINT and SIGTERM.
    fn on_signal(&self) -> io::Result<()> {
        let teardown = self.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut terminate, mut interrupt) = {
            let _inside = runtime.enter();
            use tokio::signal::unix::{SignalKind, signal};
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            });
            teardown.run();
            // As a shell reports a process that SIGINT ended.
            std::process::exit(130);
        })?;
        Ok(())
    }
}
