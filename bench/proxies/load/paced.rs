//! A constant rate, whatever the answers do: what comes late is sent late, and its time counts from when it was due.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::threads::each;
use super::wire::{Connection, get};
use super::{Done, Latency, Target};
use crate::process::Failure;

pub(super) fn run(target: &Target<'_>, connections: usize, rate: usize) -> Result<Done, Failure> {
    let requests: Vec<Vec<u8>> = target.rules.allowed("GET").iter().map(|path| get(path)).collect();
    let total = (rate as f64 * target.seconds) as usize;
    let start = Instant::now() + Duration::from_millis(50);
    let due = |number: usize| start + Duration::from_secs(1) * number as u32 / rate as u32;
    // A proxy that cannot keep up is not waited for; the rate that it was sent tells.
    let end = start + Duration::from_secs_f64(2.0 * target.seconds);
    let one = |first: usize| -> Result<Vec<u64>, Failure> {
        // The kernel may wake a sleeper 50 µs late to save power; here that would be measured.
        rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
        let mut connection = Connection::open(target.at)?;
        let mut times = Vec::with_capacity(total / connections + 1);
        for number in (first..total).step_by(connections) {
            if Instant::now() > end {
                break;
            }
            let due = due(number);
            sleep(due.saturating_duration_since(Instant::now()));
            let status = connection.ask(&requests[number % requests.len()])?;
            if status != 200 {
                return Err(format!("{status} instead of 200").into());
            }
            times.push(due.elapsed().as_nanos() as u64);
        }
        Ok(times)
    };
    let mut times = each(connections, one)?.concat();
    times.sort_unstable();
    let done = Done::untimed(times.len() as f64, start.elapsed().as_secs_f64());
    Ok(Done { latency: Latency::of(&times), times, ..done })
}
