//! The node's store, opened by the first component that needs it.

use std::sync::Arc;

use store_forward::Store;
use store_forward::clock::Clock;
use store_forward::disk::Disk;
use store_forward::limits::Limits;
use store_forward::store::{OpenError, Options};
use tokio::sync::OnceCell;

/// The embedded store of a device. Clones share it.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    store: OnceCell<Store>,
}

impl Embedded {
    /// Creates a store on `disk`; nothing is opened yet.
    #[must_use]
    pub fn new(options: Options, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared { options, disk, clock, store: OnceCell::new() }) }
    }

    /// Returns the store; the first call opens it, and others wait for that.
    ///
    /// # Errors
    ///
    /// See [`Store::open`].
    pub async fn open(&self) -> Result<&Store, OpenError> {
        let Shared { options, disk, clock, store } = &*self.shared;
        let open = || async {
            let options = options.clone();
            let disk = Arc::clone(disk);
            let clock = Arc::clone(clock);
            // Opening reads the journal, which may take seconds on a slow card.
            match tokio::task::spawn_blocking(move || Store::open(options, disk, clock)).await {
                Ok(opened) => opened,
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        };
        store.get_or_try_init(open).await
    }

    /// Returns the clock that the store reads.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// Returns whether the disk holds a store already.
    ///
    /// # Errors
    ///
    /// When the disk can't be listed.
    pub fn exists(&self) -> std::io::Result<bool> {
        Store::is_on(&*self.shared.disk)
    }

    /// Returns the store if it is open.
    #[must_use]
    pub fn opened(&self) -> Option<&Store> {
        self.shared.store.get()
    }

    /// Opens a separate store in memory, which is lost with the process.
    pub(crate) fn open_volatile(&self, limits: Limits) -> Result<Store, OpenError> {
        let node = self.opened().map(|store| store.identity().node.clone());
        let node = node.or_else(|| self.shared.options.node.clone());
        let options = Options { node, limits, volatile: true };
        let disk = Arc::new(store_forward::disk::MemoryDisk::new());
        Store::open(options, disk, Arc::clone(&self.shared.clock))
    }
}
