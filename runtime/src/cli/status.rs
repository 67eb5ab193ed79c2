//! `pannier status`.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, data_dir_to_ask, print};
use crate::admin::client::{ask, ask_json};
use crate::admin::messages::GetStatus;
use crate::{admin, console, text};

pub(super) const EXAMPLES: &str = "\
Examples:
  sudo pannier status
      show what is wrong with the system's service, and what waits for whom
  pannier status --json --data-dir ./data
      print the same as JSON, for the process with that data directory";

/// Flags of `pannier status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// The data directory of the process to ask: the user's own, or else the system service's,
    /// `/var/lib/pannier`.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Prints the status of the running process.
///
/// # Errors
///
/// When no process answers, or standard output can't be written.
pub async fn run(args: StatusArgs) -> Result<(), Failure> {
    let data_dir = data_dir_to_ask(args.data_dir);
    if args.json {
        return print(&text::json(&ask_json(&data_dir, &GetStatus).await?));
    }
    let status = ask(&data_dir, &GetStatus).await?;
    print(&admin::text::render(&status, console::width()))
}
