//! `pannier retry`.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, data_dir_to_ask, print};
use crate::admin::client::ask;
use crate::admin::messages::RetryConsumer;
use crate::text;

pub(super) const EXAMPLES: &str = "\
Examples:
  pannier retry uplink/home
      try again what the broker could not take, after its limit was raised
  pannier retry 'app/shop/pubsub/sensors/#'
      the same for a subscription, without waiting for the next attempt";

/// Flags of `pannier retry`.
#[derive(Args, Debug)]
pub struct RetryArgs {
    /// The consumer's name, as `pannier status` shows it.
    pub consumer: String,
    /// The data directory of the process to ask: the user's own, or else the system service's,
    /// `/var/lib/pannier`.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
}

/// Tries a consumer's held messages again, and prints their number.
///
/// # Errors
///
/// When there is no such consumer, no process answers, or standard output can't be written.
pub async fn run(args: RetryArgs) -> Result<(), Failure> {
    let RetryArgs { consumer, data_dir } = args;
    let request = RetryConsumer { consumer };
    let held = ask(&data_dir_to_ask(data_dir), &request).await?;
    let messages = text::count(held, "held message", "held messages");
    print(&format!("{} tries {messages} again\n", text::escape(&request.consumer)))
}
