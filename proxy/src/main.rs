//! The `eastwall` command: a Layer-7 firewall for the traffic between pods.

mod admin;
mod app;
mod command;
mod config;
mod detect;
mod http1;
mod http2;
mod identity;
mod intercept;
mod observe;
mod policy;
mod stream;
mod tls;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    command::run()
}
