//! The `eastwall` command: a Layer-7 firewall for the traffic between pods.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    eastwall::command::run()
}
