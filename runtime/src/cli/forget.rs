//! `pannier forget`.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, data_dir_to_ask, print};
use crate::admin::client::ask;
use crate::admin::messages::{ForgetConsumer, ForgottenBacklog};
use crate::text;

pub(super) const EXAMPLES: &str = "\
Examples:
  pannier forget uplink/old
      delete an uplink that is gone, and the messages that wait for it alone
  pannier forget 'app/shop/pubsub/sensors/#'
      the same for a subscription; quotes keep the shell from reading the name";

/// Flags of `pannier forget`.
#[derive(Args, Debug)]
pub struct ForgetArgs {
    /// The consumer's name, as `pannier status` shows it.
    pub consumer: String,
    /// Delete the backlog of a consumer that is in use; it goes on with the next message.
    #[arg(long)]
    pub force: bool,
    /// The data directory of the process to ask: the user's own, or else the system service's,
    /// `/var/lib/pannier`.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
}

/// Forgets a consumer, and prints the number of messages that were deleted with it.
///
/// # Errors
///
/// When there is no such consumer, it is in use, no process answers, or standard output can't be
/// written.
pub async fn run(args: ForgetArgs) -> Result<(), Failure> {
    let ForgetArgs { consumer, force, data_dir } = args;
    let request = ForgetConsumer { consumer, force };
    let ForgottenBacklog { deleted, kept } = ask(&data_dir_to_ask(data_dir), &request).await?;
    let messages = text::count(deleted, "message", "messages");
    let alone = match deleted {
        0 => "",
        1 => " (nobody else waits for it)",
        _ => " (nobody else waits for them)",
    };
    let stay = if kept == 1 { "stays" } else { "stay" };
    let consumer = text::escape(&request.consumer);
    print(&format!("forgot {consumer}: {messages} deleted{alone}, {kept} {stay} for others\n"))
}
