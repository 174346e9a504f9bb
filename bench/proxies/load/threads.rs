//! A thread for each connection of a load that waits for what it reads.

use std::thread::scope;

use crate::process::Failure;

/// Runs `one` for each connection at once, and gives what each came to.
pub(crate) fn each<T: Send>(
    connections: usize,
    one: impl Fn(usize) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let one = |number: usize| one(number).map_err(|error| error.to_string());
    let all: Result<Vec<T>, String> = scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..connections).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread died".to_owned()))).collect()
    });
    Ok(all?)
}
