//! The world in force, and the news that it changed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use eastwall_policy::world::World;
use tokio::sync::watch;

/// The world in force. Cheap to read on every request; a connection that waits can also wait for the next world.
#[derive(Debug)]
pub(crate) struct Live {
    world: ArcSwap<World>,
    changed: watch::Sender<u64>,
}

impl Live {
    /// Starts with this world.
    pub(crate) fn new(world: Arc<World>) -> Self {
        let number = world.generation().number;
        Self { world: ArcSwap::new(world), changed: watch::Sender::new(number) }
    }

    /// The world in force.
    pub(crate) fn load(&self) -> Arc<World> {
        self.world.load_full()
    }

    /// Swaps the world whole and wakes everyone who waits.
    pub(crate) fn swap(&self, world: Arc<World>) {
        let number = world.generation().number;
        self.world.store(world);
        self.changed.send_replace(number);
    }

    /// Tells of every swap (and of expiries, which make a new generation): live connections judge themselves again.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
