//! The least proxy: accepts through this room's listeners, dials through its dialers, copies bytes, judges nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::intercept::{Accepted, Listeners};

/// Runs on a thread of its own until it is dropped; then every socket is closed at once.
pub(super) struct Relay {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    pub(super) fn start(listeners: &Listeners) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (listeners, seen) = (listeners.clone(), Arc::new(Mutex::new(Vec::new())));
        let log = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let accepting = async {
                    let mut acceptor = listeners.acceptor().unwrap();
                    drop(listeners);
                    loop {
                        let accepted = acceptor.accept().await;
                        let Accepted { direction, remote, destination, .. } = &accepted;
                        let line = format!("{direction:?} {} {} {:?}", remote.0, destination.0, accepted.pod);
                        log.lock().unwrap().push(line);
                        tokio::spawn(carry(accepted));
                    }
                };
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { stop: Some(stop), thread: Some(thread), seen }
    }

    /// A line a connection: direction, source, destination, pod.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn carry(mut accepted: Accepted) {
    if let Ok(mut upstream) = accepted.dialer.connect(accepted.destination.0, Duration::from_secs(5)).await {
        let _ = tokio::io::copy_bidirectional(&mut accepted.stream, &mut upstream).await;
    }
}
