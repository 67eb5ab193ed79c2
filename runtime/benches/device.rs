//! Measures the costs on a device: each figure beside its floor, in the same run on the same disk.
//!
//! `cargo bench -p runtime --bench device` prints a table. `SHORT` is a hint and no failure. Floor and
//! figure are measured in turns, so that a busy machine disturbs both.
//!
//! Names after `--` choose figures: bytes, latency, reads, throughput, chunked, stalled,
//! heads, idle, start, backlog.
//!
//! | variable | meaning | default |
//! | --- | --- | --- |
//! | `PANNIER_BENCH_DIR` | the directory for data; on a disk, not in memory | under the target directory |
//! | `PANNIER_BENCH_IDLE_SECONDS` | seconds that an idle process is watched | 60 |
//! | `PANNIER_BIN` | the program that is started | the one built for this run |
//!
//! | module | one sentence |
//! | --- | --- |
//! | `durable` | the bytes and the time of a durable write |
//! | `serving` | the cost of the store for calls over HTTP |
//! | `clients` | the cost of clients that send in chunks, stall, or never finish |
//! | `resident` | the cost of an idle program, and of a start |
//! | `served` | the API served within this process |
//! | `process` | the program as a process of its own |
//! | `load` | clients that call over HTTP, in a process of their own |
//! | `disk` | the bare disk, and the bytes that are written to it |
//! | `table` | medians and the printed table |

#[path = "device/clients.rs"]
mod clients;
#[path = "device/disk.rs"]
mod disk;
#[path = "device/durable.rs"]
mod durable;
#[path = "device/load.rs"]
mod load;
#[path = "device/process.rs"]
mod process;
#[path = "device/resident.rs"]
mod resident;
#[path = "device/served.rs"]
mod served;
#[path = "device/serving.rs"]
mod serving;
#[path = "device/table.rs"]
mod table;

use std::path::{Path, PathBuf};

use table::Row;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Failure> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(load::CHILD) => load::child(&args[1..]),
        _ if args.iter().any(|arg| arg == "--bench") => measure(&args),
        // `cargo test --all-targets` starts benches too.
        _ => {
            println!("nothing is measured without --bench: use cargo bench");
            Ok(())
        }
    }
}

fn measure(args: &[String]) -> Result<()> {
    let dir = std::env::var_os("PANNIER_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from)
        .join(format!("device-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let chosen: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let rows = figures(&dir, &chosen);
    std::fs::remove_dir_all(&dir)?;
    table::print(&rows?);
    Ok(())
}

fn figures(dir: &Path, chosen: &[&String]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, figure) in [
        ("bytes", durable::bytes as fn(&Path) -> Result<Vec<Row>>),
        ("latency", durable::latency),
        ("reads", serving::reads),
        ("throughput", serving::throughput),
        ("chunked", clients::chunked),
        ("stalled", clients::stalled),
        ("heads", clients::heads),
        ("idle", resident::idle),
        ("start", resident::start),
        ("backlog", resident::backlog),
    ] {
        if !chosen.is_empty() && !chosen.iter().any(|chosen| *chosen == name) {
            continue;
        }
        eprintln!("measures {name}");
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir)?;
        rows.extend(figure(&dir)?);
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(rows)
}
