//! Sets a file's time to 2040 and reads it back: a `time_t` of 32 bits ends in January 2038.

use std::fs::File;
use std::io::{Error, Result};
use std::time::{Duration, UNIX_EPOCH};

/// 2040-01-01T00:00:00Z
const SECONDS: u64 = 2_208_988_800;

fn main() -> Result<()> {
    let path = std::env::temp_dir().join(format!("year-2040-{}", std::process::id()));
    let time = UNIX_EPOCH + Duration::from_secs(SECONDS);
    let set = File::create(&path).and_then(|file| file.set_modified(time));
    let read = set.and_then(|()| path.metadata()).and_then(|metadata| metadata.modified());
    std::fs::remove_file(&path)?;
    let read = read?;
    if read != time {
        return Err(Error::other(format!("the file is of {read:?}, not of {time:?}")));
    }
    println!("a file's time can be in 2040");
    Ok(())
}
