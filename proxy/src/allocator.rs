//! What the allocator keeps for later, given back to the system by whoever comes to rest.
//!
//! What a request needs stays as the allocator sees fit: nobody on its way calls this.

use tikv_jemalloc_ctl::{Access as _, AsName as _, Result};

/// Empties this thread's cache, and gives back every page that no arena uses. Costs a system call for each run of
/// pages, and a page fault for each page that is used again.
pub(crate) fn give_back() {
    if let Err(error) = empty_cache().and_then(|()| purge()) {
        tracing::debug!(%error, "the allocator gives nothing back");
    }
}

/// To turn a cache off empties it.
fn empty_cache() -> Result<()> {
    let cache = "thread.tcache.enabled\0".name();
    let is_used = cache.update(false)?;
    cache.write(is_used)
}

/// An arena without a delay purges at once. The delay afterwards is what the program was started with, not what was
/// there before: another thread may be doing the same.
fn purge() -> Result<()> {
    let usual: isize = "opt.dirty_decay_ms\0".name().read()?;
    let arenas: u32 = "arenas.narenas\0".name().read()?;
    for arena in 0..arenas {
        let delay = format!("arena.{arena}.dirty_decay_ms\0");
        // One that was never used has none.
        if delay.name().write(0_isize).is_ok() {
            delay.name().write(usual)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_stay_as_they_were() {
        let settings = || {
            let cache: bool = "thread.tcache.enabled\0".name().read().unwrap();
            let delay: isize = "arena.0.dirty_decay_ms\0".name().read().unwrap();
            (cache, delay)
        };
        let before = settings();
        empty_cache().unwrap();
        purge().unwrap();
        assert_eq!(settings(), before);
        assert!(before.0 && before.1 > 0, "nothing to empty, or nothing to purge");
    }
}
