//! New connections of mutual TLS that end once the proxy has spoken: it believes the client then.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::runtime::{Builder, LocalOptions};
use tokio_rustls::TlsConnector;

use super::hbone::shake;
use super::{Done, Target};
use crate::identities::{self, SOURCE};
use crate::process::Failure;

pub(super) fn run(target: &Target<'_>, at_a_time: usize) -> Result<Done, Failure> {
    let connector = TlsConnector::from(identities::client(target.folder, SOURCE)?);
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(target.seconds);
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let count = runtime.block_on(async {
        let (client, at) = (target.client, target.at);
        let mut tasks = Vec::new();
        for _ in 0..at_a_time {
            let connector = connector.clone();
            tasks.push(tokio::task::spawn_local(async move {
                let mut count = 0;
                while Instant::now() < end {
                    let mut stream = shake(&connector, client, at).await?;
                    // In TLS 1.3 the client is done before the proxy has looked at its certificate. The proxy's settings of
                    // HTTP/2 come after that.
                    if stream.read(&mut [0; 64]).await? == 0 {
                        return Err("the connection ended before the proxy spoke".into());
                    }
                    // Ports that wait for their end run out.
                    stream.get_ref().0.set_zero_linger()?;
                    count += 1;
                }
                Ok::<usize, Failure>(count)
            }));
        }
        let mut count = 0;
        for task in tasks {
            count += task.await??;
        }
        Ok::<usize, Failure>(count)
    })?;
    Ok(Done::untimed(count as f64, start.elapsed().as_secs_f64()))
}
