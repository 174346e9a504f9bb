//! News of swaps for the connections of one worker. The worker is told once; what follows touches nothing that another
//! worker touches.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use eastwall_policy::world::World;
use slab::Slab;

use super::live::Follower;

/// What one worker knows of swaps, and its connections and streams that have to be judged after each.
#[derive(Debug)]
pub(crate) struct News(RefCell<State>);

#[derive(Debug)]
struct State {
    follower: Follower,
    /// The last world that the worker was told of.
    current: u64,
    watches: Slab<Held>,
    /// Watches that were not yet judged by it.
    behind: usize,
    ticks: u64,
    /// How often something else than the world has changed that verdicts rest on.
    elsewhere: u64,
}

#[derive(Debug)]
struct Held {
    judged: u64,
    elsewhere: u64,
    waker: Option<Waker>,
}

/// A connection's, or a stream's, view of the swaps. It owes a judgement after each; [`Watch::judged`] pays it, and so
/// does dropping the watch.
#[derive(Debug)]
pub(crate) struct Watch {
    news: Rc<News>,
    key: usize,
}

// === impl News ===

impl News {
    /// Nobody watches yet.
    pub(crate) fn new(follower: Follower) -> Self {
        let current = follower.judged_last();
        Self(RefCell::new(State { follower, current, watches: Slab::new(), behind: 0, ticks: 0, elsewhere: 0 }))
    }

    /// Takes news and hands them on, for as long as the worker lives.
    pub(crate) async fn follow(&self, mut swaps: tokio::sync::watch::Receiver<u64>) {
        loop {
            let number = *swaps.borrow_and_update();
            self.tell(number);
            if swaps.changed().await.is_err() {
                return;
            }
        }
    }

    fn tell(&self, number: u64) {
        let wakers: Vec<Waker> = {
            let mut state = self.0.borrow_mut();
            if number <= state.current {
                return;
            }
            state.current = number;
            let behind = |held: &Held| held.judged < number;
            state.behind = state.watches.iter().filter(|(_, held)| behind(held)).count();
            state.settle();
            state
                .watches
                .iter_mut()
                .filter(|(_, held)| behind(held))
                .filter_map(|(_, held)| held.waker.take())
                .collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Everybody who waits in [`Watch::changed`] is polled: time has passed, by [`Self::ticks`].
    ///
    /// PERF: one timer for all streams of a worker, where each would need its own.
    pub(crate) fn tick(&self) {
        self.wake(|state| state.ticks += 1);
    }

    /// What verdicts rest on has changed while the world stayed: every connection is judged again.
    pub(crate) fn changed_elsewhere(&self) {
        self.wake(|state| state.elsewhere += 1);
    }

    fn wake(&self, note: impl FnOnce(&mut State)) {
        let wakers: Vec<Waker> = {
            let mut state = self.0.borrow_mut();
            note(&mut state);
            state.watches.iter_mut().filter_map(|(_, held)| held.waker.take()).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How often time has passed.
    pub(crate) fn ticks(&self) -> u64 {
        self.0.borrow().ticks
    }

    /// Watches from the last world that the worker was told of. Take the watch *before* the world that the connection
    /// is judged by: a swap in between is then seen.
    pub(crate) fn watch(self: &Rc<Self>) -> Watch {
        let mut state = self.0.borrow_mut();
        let held = Held { judged: state.current, elsewhere: state.elsewhere, waker: None };
        let key = state.watches.insert(held);
        Watch { news: Rc::clone(self), key }
    }
}

impl State {
    fn settle(&mut self) {
        if self.behind == 0 {
            self.follower.judged(self.current);
        }
    }

    /// One watch that was judged last by `from` needs no judgement by any world up to `to`.
    fn judged(&mut self, from: u64, to: u64) {
        if from < self.current && self.current <= to {
            self.behind = self.behind.saturating_sub(1);
            self.settle();
        }
    }
}

// === impl Watch ===

impl Watch {
    /// Waits until a world is in force that this connection was not judged by, or what verdicts rest on has changed
    /// elsewhere. Never, where neither comes.
    /// Cancel-safe: [`Self::judged`] alone marks a world as seen.
    pub(crate) async fn changed(&mut self) {
        poll_fn(|context| {
            let mut state = self.news.0.borrow_mut();
            let (current, elsewhere) = (state.current, state.elsewhere);
            let Some(held) = state.watches.get_mut(self.key) else { return Poll::Pending };
            if held.judged < current || held.elsewhere < elsewhere {
                return Poll::Ready(());
            }
            let waker = context.waker();
            let former = match &held.waker {
                Some(known) if known.will_wake(waker) => None,
                _ => held.waker.replace(waker.clone()),
            };
            // INVARIANT: a waker may own a task, and that a watch: none is dropped under the borrow.
            drop(state);
            drop(former);
            Poll::Pending
        })
        .await;
    }

    /// Everything that lives on this connection was judged by `world`, and cut where it had to be.
    pub(crate) fn judged(&mut self, world: &World) {
        let number = world.generation().number;
        let mut state = self.news.0.borrow_mut();
        let elsewhere = state.elsewhere;
        let Some(held) = state.watches.get_mut(self.key) else { return };
        held.elsewhere = elsewhere;
        let former = held.judged;
        if number > former {
            held.judged = number;
            state.judged(former, number);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.news.0.borrow_mut();
        let held = state.watches.try_remove(self.key);
        if let Some(held) = &held {
            state.judged(held.judged, u64::MAX);
        }
        drop(state);
        drop(held);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Context;

    use prometheus::{Histogram, HistogramOpts};

    use super::*;
    use crate::policy::Live;

    fn world(number: u64) -> Arc<World> {
        Arc::new(World::sealed(number))
    }

    fn live(seconds: &Histogram) -> Live {
        Live::new(world(1), false, seconds.clone())
    }

    fn seconds() -> Histogram {
        Histogram::with_opts(HistogramOpts::new("t", "h")).unwrap()
    }

    fn is_changed(watch: &mut Watch) -> bool {
        let future = std::pin::pin!(watch.changed());
        future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_swap_is_measured_when_the_last_connection_of_the_last_worker_was_judged_or_gone() {
        let seconds = seconds();
        let live = live(&seconds);
        let workers = [(); 2].map(|()| Rc::new(News::new(live.follow().0)));
        let mut watches = [workers[0].watch(), workers[0].watch(), workers[1].watch()];
        live.swap(world(2));
        assert!(!is_changed(&mut watches[0]), "nobody has told the worker");
        workers.iter().for_each(|news| news.tell(2));
        assert!(watches.iter_mut().all(is_changed));
        watches[0].judged(&world(2));
        assert!(!is_changed(&mut watches[0]));
        watches[2].judged(&world(2));
        assert_eq!(seconds.get_sample_count(), 0, "one connection is left");
        let [kept, gone, other] = watches;
        drop(gone);
        assert_eq!(seconds.get_sample_count(), 1);
        drop((kept, other));
        live.swap(world(3));
        workers.iter().for_each(|news| news.tell(3));
        assert_eq!(seconds.get_sample_count(), 2, "nobody had to be judged");
    }

    #[test]
    fn a_swap_between_the_watch_and_the_world_is_not_lost() {
        let seconds = seconds();
        let live = live(&seconds);
        let news = Rc::new(News::new(live.follow().0));
        let mut watch = news.watch();
        live.swap(world(2));
        // Judged by the world before, while the worker was not told of the next one.
        watch.judged(&world(1));
        news.tell(2);
        assert!(is_changed(&mut watch));
        // The worker is told late of a world that a connection was judged by already.
        let mut early = news.watch();
        live.swap(world(3));
        early.judged(&world(3));
        news.tell(3);
        assert!(!is_changed(&mut early));
        watch.judged(&world(3));
        assert_eq!(seconds.get_sample_count(), 2);
    }

    #[test]
    fn a_tick_polls_whoever_waits_and_is_no_swap() {
        let live = live(&seconds());
        let news = Rc::new(News::new(live.follow().0));
        let mut watch = news.watch();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let polled = std::pin::pin!(watch.changed()).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        news.tick();
        assert_eq!((woken.0.load(Ordering::Relaxed), news.ticks()), (1, 1));
        assert!(!is_changed(&mut watch));
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_change_elsewhere_is_judged_once_and_is_no_swap() {
        let seconds = seconds();
        let live = live(&seconds);
        let news = Rc::new(News::new(live.follow().0));
        let mut watches = [news.watch(), news.watch()];
        news.changed_elsewhere();
        assert!(watches.iter_mut().all(is_changed));
        watches[0].judged(&world(1));
        assert!(!is_changed(&mut watches[0]) && is_changed(&mut watches[1]));
        assert!(!is_changed(&mut news.watch()), "whoever comes later was judged later");
        assert_eq!(seconds.get_sample_count(), 0);
    }

    #[test]
    fn of_two_swaps_the_second_is_still_owed() {
        let seconds = seconds();
        let live = live(&seconds);
        let news = Rc::new(News::new(live.follow().0));
        let mut watch = news.watch();
        for number in [2, 3] {
            live.swap(world(number));
            news.tell(number);
        }
        watch.judged(&world(2));
        assert!(is_changed(&mut watch));
        assert_eq!(seconds.get_sample_count(), 0);
        watch.judged(&world(3));
        assert!(!is_changed(&mut watch));
        assert_eq!(seconds.get_sample_count(), 2);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let seconds = seconds();
        let live = Arc::new(live(&seconds));
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let (follower, swaps) = live.follow();
                let news = Rc::new(News::new(follower));
                let mut watch = news.watch();
                let following = Rc::clone(&news);
                tokio::task::spawn_local(async move { following.follow(swaps).await });
                let swap = async {
                    tokio::task::yield_now().await;
                    live.swap(world(2));
                };
                let waited = tokio::time::timeout(std::time::Duration::from_secs(10), async {
                    tokio::join!(watch.changed(), swap)
                });
                assert!(waited.await.is_ok());
            })
            .await;
    }
}
