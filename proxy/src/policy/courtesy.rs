//! Leaves the core to the workers while a world is made, and not for ever.

use std::time::{Duration, Instant};

use eastwall_policy::pace;

/// Runs `work`. Whoever waits for this core goes first, again and again, until others have had more of it than the work
/// has, and then some: policy is enforced on a core that is never idle, too.
///
/// A lower priority does not do: a thread without privileges cannot have its own back, it keeps what it has locked
/// while it waits, and the kernel ends the slice of a thread that is nicer no sooner.
pub(super) fn courteously<T>(work: impl FnOnce() -> T) -> T {
    let mut turns = Turns::begin(Instant::now());
    let pause = move || {
        let now = Instant::now();
        if turns.is_over(now) {
            rustix::thread::sched_yield();
            turns.next(now, Instant::now());
        }
    };
    pace::pausing(pause, work)
}

#[derive(Debug)]
struct Turns {
    begin: Instant,
    /// When this one began.
    since: Instant,
    /// What others have had.
    given: Duration,
}

impl Turns {
    fn begin(now: Instant) -> Self {
        Self { begin: now, since: now, given: Duration::ZERO }
    }

    fn is_over(&self, now: Instant) -> bool {
        let worked = now.saturating_duration_since(self.begin).saturating_sub(self.given);
        now.saturating_duration_since(self.since) >= TURN && self.given < worked + COURTESY
    }

    /// Others went first from `from` on, until `now`.
    fn next(&mut self, from: Instant, now: Instant) {
        self.given += now.saturating_duration_since(from);
        self.since = now;
    }
}

/// What a request may wait for the thread that makes a world.
const TURN: Duration = Duration::from_micros(100);

/// What others get before the work has had as much: a third of what a change may take until it is enforced.
const COURTESY: Duration = Duration::from_millis(30);

#[cfg(test)]
mod tests {
    use super::*;

    /// How often others go first while the work takes this long, where each time takes them this long.
    fn given(work: Duration, each: Duration) -> u32 {
        let start = Instant::now();
        let (mut turns, mut now, mut worked, mut count) = (Turns::begin(start), start, Duration::ZERO, 0);
        while worked < work {
            worked += Duration::from_micros(10);
            now += Duration::from_micros(10);
            if turns.is_over(now) {
                turns.next(now, now + each);
                now += each;
                count += 1;
            }
        }
        count
    }

    #[test]
    fn courtesy_is_shown_each_turn_and_ends() {
        let work = Duration::from_millis(30);
        assert_eq!(given(work, Duration::ZERO), 300, "nobody waits");
        assert_eq!(given(work, Duration::from_micros(50)), 300, "each turn");
        assert_eq!(given(work, Duration::from_millis(4)), 15, "a core that is never idle");
        assert_eq!(given(work, Duration::from_secs(1)), 1, "one that is busy with a thousand others");
    }
}
