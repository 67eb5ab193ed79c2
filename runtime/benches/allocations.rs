//! Allocations of a publish and of an envelope.
//!
//! `cargo bench -p runtime --bench allocations` prints a table and judges nobody: `SHORT` is a hint,
//! not a failure. A publish is one of 64 publishers' to the whole program, which runs on one thread
//! here; the store's writer thread and the clients have their own and aren't counted. Its floor is
//! hyper answering the same request with a bare 204.
//!
//! | module | one sentence |
//! | --- | --- |
//! | `publish` | the program and the bare server, and what they allocate for a request |
//! | `clients` | publishers on a thread of their own |
//! | `envelope` | the CloudEvent JSON of one message |

#[path = "allocations/clients.rs"]
mod clients;
#[path = "allocations/envelope.rs"]
mod envelope;
#[path = "allocations/publish.rs"]
mod publish;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Failure> = std::result::Result<T, E>;

/// Allocations of a publish at most.
const PUBLISH_TARGET: f64 = 27.0;
/// Allocations of an envelope at most.
const ENVELOPE_TARGET: f64 = 10.0;

fn main() -> Result<()> {
    // `cargo test --all-targets` starts benches too.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("nothing is measured without --bench: use cargo bench");
        return Ok(());
    }
    println!("| allocations of | value | target | |");
    println!("| --- | --- | --- | --- |");
    let floor = publish::bare()?;
    print("a request that hyper answers with 204", floor, None);
    print("a publish", publish::program()?, Some(PUBLISH_TARGET));
    for (figure, value) in envelope::figures() {
        print(figure, value, Some(ENVELOPE_TARGET));
    }
    Ok(())
}

fn print(figure: &str, value: f64, target: Option<f64>) {
    let verdict = target.map_or("", |most| if value <= most { "ok" } else { "SHORT" });
    let target = target.map_or_else(String::new, |most| format!("<= {most}"));
    println!("| {figure} | {value:.1} | {target} | {verdict} |");
}
