//! `pannier`: parses the command line and runs its command.

use std::num::NonZero;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Duration;

use runtime::cli::{self, Failure};
use runtime::logs;

/// Most threads that serve calls: a small board has no more cores, and each costs memory.
const MAX_WORKERS: usize = 4;

/// Returns the memory that a burst of large calls has freed to the system, which a board of 512 MB
/// needs. The allocators of glibc and of zig's musl keep it.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let cli = cli::parse(std::env::args()).unwrap_or_else(|error| error.exit());
    let cores = available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(MAX_WORKERS))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(format!("threads can't be started: {error}")).report(),
    };
    let code = match runtime.block_on(cli.command.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    };
    runtime.shutdown_timeout(Duration::from_millis(100));
    logs::flush();
    code
}
