use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a test waits for what must happen: much longer than it takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at something that can't be waited for.
const INTERVAL: Duration = Duration::from_millis(10);

/// Awaits something, and returns it.
///
/// # Panics
/// When it takes longer than [`PATIENCE`].
pub async fn in_time<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    let Ok(found) = tokio::time::timeout(PATIENCE, awaited).await else {
        panic!("waited {PATIENCE:?} in vain: {what}")
    };
    found
}

/// Looks until there is something, and returns it.
///
/// # Panics
/// When there is nothing for as long as [`PATIENCE`].
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        sleep(INTERVAL);
    }
}
