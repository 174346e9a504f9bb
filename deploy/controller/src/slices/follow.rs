//! One stream of one proxy: the slice whole, then what changes, one version at a time.
//!
//! The next version is sent once the last is acknowledged: a slow proxy skips what came and went meanwhile, and the
//! controller never holds more than two states for it.

use std::sync::Arc;
use std::time::Duration;

use eastwall_protocol::v1alpha1 as protocol;
use protocol::follow_request::Message as Said;
use protocol::follow_response::Message;
use protocol::{FollowRequest, FollowResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until, timeout};
use tonic::{Status, Streaming};

use super::caller::Caller;
use super::endpoint::Callers;
use super::fleet::Fleet;
use super::group::Entry;
use super::settings::Settings;
use super::slice::{Difference, Serves, Slice};
use crate::cluster::Key;

/// Where answers go. Small: what the proxy has not read yet is not made.
pub(super) type Answers = mpsc::Sender<Result<FollowResponse, Status>>;

/// Follows until somebody ends it; the error is the last answer.
pub(super) async fn serve(
    caller: Caller,
    mut said: Streaming<FollowRequest>,
    answers: Answers,
    fleet: &Fleet,
    callers: &Callers,
) {
    if let Err(status) = run(&caller, &mut said, &answers, fleet, callers).await {
        tracing::debug!(pod = %caller.pod.name, namespace = %caller.pod.namespace, %status, "a stream ends");
        // A proxy that is gone, or does not read, hears nothing more.
        let _ = timeout(LAST_WORD, answers.send(Err(status))).await;
    }
}

async fn run(
    caller: &Caller,
    said: &mut Streaming<FollowRequest>,
    answers: &Answers,
    fleet: &Fleet,
    callers: &Callers,
) -> Result<(), Status> {
    let settings = &callers.settings;
    let hello = timeout(settings.patience, said.message()).await;
    let hello = hello.map_err(|_| Status::deadline_exceeded("no `Hello` in time"))??;
    let Some(FollowRequest { message: Some(Said::Hello(hello)) }) = hello else {
        return Err(Status::invalid_argument("the first message is `Hello`"));
    };
    let serves = serves(&hello)?;
    callers.may_serve(caller, &serves).map_err(|status| callers.refuse(status))?;
    let mut directory = fleet.directory();
    let mut slice = Arc::new(Slice::of(&directory.borrow_and_update(), &serves));
    let (place, mut replaced) = fleet.enter(caller, &serves, &slice);

    let mut sender = Sender { answers, settings };
    if *hello.version == **slice.version() {
        sender.heartbeat(&slice).await?;
    } else {
        sender.whole(&slice).await?;
    }
    // What was sent and is not acknowledged yet.
    let mut open = Some((Arc::clone(&slice), Instant::now() + settings.acknowledge_within));
    let mut wanted: Option<Arc<Slice>> = None;
    let mut beat = interval_at(Instant::now() + settings.heartbeat, settings.heartbeat);
    let end = Instant::now() + settings.stream_lifetime;
    loop {
        let overdue = open.as_ref().map_or(end, |(_, overdue)| (*overdue).min(end));
        tokio::select! {
            message = said.message() => match message? {
                None => return Ok(()),
                Some(FollowRequest { message: Some(Said::Acknowledgement(mut acknowledgement)) }) => {
                    if let Some(captured) = acknowledgement.captured.take() {
                        place.captures(captured);
                    }
                    match open.take() {
                        Some((sent, _)) if *acknowledgement.version == **sent.version() => {
                            place.acknowledged(&sent, &acknowledgement);
                        }
                        // One of an earlier stream, or said again.
                        held => open = held,
                    }
                }
                Some(_) => return Err(Status::invalid_argument("`Hello` is said once")),
            },
            changed = directory.changed() => {
                changed.map_err(|_| Status::unavailable("the controller ends"))?;
                let state = Arc::clone(&directory.borrow_and_update());
                caller.is_still_there(&state)?;
                let next = Arc::new(Slice::of(&state, &serves));
                place.wants(&next);
                wanted = Some(next);
            }
            _ = &mut replaced => return Err(Status::aborted("another stream of this proxy took its place")),
            _ = beat.tick() => sender.heartbeat(&slice).await?,
            () = sleep_until(overdue) => {
                let reason = if open.is_some() && overdue < end {
                    Status::deadline_exceeded("a version was not acknowledged in time")
                } else {
                    Status::unavailable("the stream is old: follow again, with a new token")
                };
                return Err(reason);
            }
        }
        if open.is_none()
            && let Some(next) = wanted.take()
        {
            if next.version() != slice.version() {
                sender.changes(&slice, &next).await?;
                beat.reset();
                open = Some((Arc::clone(&next), Instant::now() + settings.acknowledge_within));
            }
            slice = next;
        }
    }
}

fn serves(hello: &protocol::Hello) -> Result<Serves, Status> {
    use protocol::hello::Serves as Said;
    match &hello.serves {
        Some(Said::Pod(pod)) => {
            Ok(Serves::Pod { namespace: pod.namespace.as_str().into(), name: pod.name.as_str().into() })
        }
        Some(Said::Node(node)) if !node.is_empty() => Ok(Serves::Node(node.as_str().into())),
        _ => Err(Status::invalid_argument("`Hello` says whom the proxy serves")),
    }
}

struct Sender<'s> {
    answers: &'s Answers,
    settings: &'s Settings,
}

impl Sender<'_> {
    async fn whole(&mut self, slice: &Slice) -> Result<(), Status> {
        let mut part = protocol::Slice::default();
        let mut bytes = 0;
        for entry in slice.entries() {
            bytes += entry.json.len();
            part.objects.push(object(entry));
            if bytes >= self.settings.part_bytes {
                bytes = 0;
                self.send(slice, Message::Slice(std::mem::take(&mut part))).await?;
            }
        }
        part.workloads = slice.workloads();
        part.last = true;
        self.send(slice, Message::Slice(part)).await
    }

    async fn changes(&mut self, before: &Slice, after: &Slice) -> Result<(), Status> {
        let Difference { put, deleted } = after.since(before);
        if put.iter().map(|entry| entry.json.len()).sum::<usize>() > self.settings.part_bytes {
            return self.whole(after).await;
        }
        let changes = protocol::Changes {
            put: put.iter().map(object).collect(),
            deleted: deleted.iter().map(key).collect(),
            workloads: after.workloads(),
        };
        self.send(after, Message::Changes(changes)).await
    }

    async fn heartbeat(&mut self, slice: &Slice) -> Result<(), Status> {
        self.send(slice, Message::Heartbeat(protocol::Heartbeat {})).await
    }

    async fn send(&mut self, slice: &Slice, message: Message) -> Result<(), Status> {
        let answer = FollowResponse { version: slice.version().to_string(), message: Some(message) };
        let sent = timeout(self.settings.acknowledge_within, self.answers.send(Ok(answer))).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the proxy is gone")),
            Err(_) => Err(Status::deadline_exceeded("the proxy does not read")),
        }
    }
}

/// How many answers wait for a proxy to read them.
pub(super) const ANSWERS: usize = 2;

/// A stream's last status waits no longer for a proxy that does not read.
const LAST_WORD: Duration = Duration::from_secs(1);

fn object(entry: &Arc<Entry>) -> protocol::Object {
    protocol::Object { key: Some(key(&entry.key)), json: entry.json.clone() }
}

fn key(key: &Key) -> protocol::Key {
    protocol::Key {
        api_version: key.api_version.to_string(),
        kind: key.kind.to_string(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
    }
}
