//! Pauses between the steps of long work, for a caller that shares its core with others.
//!
//! What a pause is, and when one is due, the caller says: this crate has no clock.

use std::cell::Cell;

thread_local! {
    static TICKS: Cell<u32> = const { Cell::new(0) };
    static PAUSE: Cell<Option<Box<dyn FnMut()>>> = const { Cell::new(None) };
}

/// Calls `pause` on this thread between the steps of `work`, often: tens of microseconds lie between two calls.
pub fn pausing<T>(pause: impl FnMut() + 'static, work: impl FnOnce() -> T) -> T {
    let _former = Former(PAUSE.replace(Some(Box::new(pause))));
    work()
}

/// Put back at the end, by a panic too.
struct Former(Option<Box<dyn FnMut()>>);

impl Drop for Former {
    fn drop(&mut self) {
        PAUSE.set(self.0.take());
    }
}

/// A small part of a step is done: what takes a microsecond or two.
///
/// PERF: a pause reads the clock, which costs as much as to read a word of a document.
pub fn tick() {
    let ticks = TICKS.get() + 1;
    if ticks < TICKS_OF_A_STEP {
        TICKS.set(ticks);
    } else {
        TICKS.set(0);
        step();
    }
}

/// A step of long work is done: some tens of microseconds.
pub fn step() {
    // A pause that does such work itself is not paused.
    if let Some(mut pause) = PAUSE.take() {
        pause();
        PAUSE.set(Some(pause));
    }
}

/// Sorts as `sort_unstable` does, in steps.
pub(crate) fn sort<T: Ord>(items: &mut [T]) {
    let mut compared = 0u32;
    items.sort_unstable_by(|one, other| {
        compared = compared.wrapping_add(1);
        if compared.is_multiple_of(COMPARISONS) {
            tick();
        }
        one.cmp(other)
    });
}

/// Parts of one step.
const TICKS_OF_A_STEP: u32 = 16;

/// Of a tick.
const COMPARISONS: u32 = 64;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::facts::Direction;
    use crate::model::content::Digests;
    use crate::registry::Registry;
    use crate::table::Table;
    use crate::world::World;
    use crate::{dialect, source};

    fn counted(work: impl FnOnce()) -> usize {
        let count = Rc::new(Cell::new(0));
        let counts = Rc::clone(&count);
        pausing(move || counts.set(counts.get() + 1), work);
        count.get()
    }

    #[test]
    fn a_pause_lasts_as_long_as_its_work() {
        assert_eq!(counted(|| (0..3).for_each(|_| step())), 3);
        assert_eq!(counted(|| (0..3 * TICKS_OF_A_STEP).for_each(|_| tick())), 3);
        assert_eq!(counted(|| assert_eq!(counted(step), 1)), 0, "the inner one alone, and then the outer one again");
        assert_eq!(counted(|| drop(std::panic::catch_unwind(|| pausing(|| (), || panic!("of the test"))))), 0);
        step();
        assert!(PAUSE.take().is_none());
    }

    /// Every stage of making a world is cut into steps, however large it is: one rule, or workload, is a tick at least.
    #[test]
    fn no_stage_is_one_long_step() {
        const MANY: u32 = 2_000;
        let mut policy =
            "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {name: p, namespace: shop}\n\
             spec:\n  subject: [{serviceAccount: app}]\n  ingress:\n"
                .to_owned();
        let mut workloads = "- {name: app, namespace: shop, serviceAccount: app, ips: [10.1.0.1]}\n".to_owned();
        for number in 0..MANY {
            let account = number % 100;
            policy += &format!(
                "  - {{name: r{number}, from: [{{serviceAccount: s{account}}}], http: [{{paths: [/{number}]}}]}}\n"
            );
            workloads += &format!("- {{name: w{number}, namespace: shop, serviceAccount: s{account}}}\n");
        }
        let (policy, workloads): (Arc<str>, Arc<str>) = (policy.into(), workloads.into());
        let sources = source::parse("p", &policy);
        let model = dialect::compile(&sources).model;
        let registry = Arc::new(Registry::parse("w", &workloads).0);
        let world = World::new(Arc::clone(&model), Arc::clone(&registry), 1);
        let stages: [(&str, &dyn Fn()); 6] = [
            ("reading", &|| drop(source::parse("p", &policy))),
            ("compiling", &|| drop(dialect::compile(&sources))),
            ("hashing", &|| drop(Digests::of(&model))),
            ("building", &|| drop(Table::build(&model))),
            ("registering", &|| drop(Registry::parse("w", &workloads))),
            ("counting", &|| assert_eq!(world.unprotected(Direction::Inbound), MANY as usize)),
        ];
        for (name, stage) in stages {
            let steps = counted(stage);
            assert!(steps >= (MANY / TICKS_OF_A_STEP) as usize, "{name}: {steps} steps");
        }
    }

    #[test]
    fn sorting_is_done_in_steps() {
        let mut items: Vec<u32> = (0..10_000).map(|number: u32| number.wrapping_mul(0x9E37_79B1)).collect();
        assert!(counted(|| sort(&mut items)) > 50);
        assert!(items.is_sorted());
    }
}
