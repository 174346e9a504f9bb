//! One stream: takes in what the controller sends, has it put in force, and says what became of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use eastwall_protocol::v1alpha1 as protocol;
use protocol::acknowledgement::Result as Outcome;
use protocol::follow_request::Message as Said;
use protocol::follow_response::Message;
use protocol::slices_client::SlicesClient;
use protocol::{Acknowledgement, Captured, FollowRequest, FollowResponse, Hello, Refusal};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::connect::Channel;
use super::keep::Keep;
use super::settings::Serves;
use crate::policy::Status;

/// Why a stream ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) why: String,
}

impl<E: std::fmt::Display> From<E> for Ended {
    fn from(error: E) -> Self {
        Self { why: error.to_string() }
    }
}

/// Follows until the stream ends. `answered`: the controller knows us.
pub(super) async fn run(keep: &mut Keep, channel: Channel, answered: impl FnMut()) -> Ended {
    match follow(keep, channel, answered).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

async fn follow(
    keep: &mut Keep,
    channel: Channel,
    mut answered: impl FnMut(),
) -> Result<std::convert::Infallible, Ended> {
    let (sender, receiver) = mpsc::channel(2);
    sender.send(request(Said::Hello(hello(&keep.following.serves, keep.state.version())))).await?;
    let mut client = SlicesClient::with_origin(channel.clone(), Channel::origin());
    client = client.max_decoding_message_size(MESSAGE_BYTES);
    let called = tokio::time::timeout(SILENCE, client.follow(ReceiverStream::new(receiver))).await;
    let mut stream = called.map_err(|_| late())?.map_err(|status| told(&status))?.into_inner();
    let mut whole = Whole::default();
    let mut acknowledged: Option<Acknowledgement> = None;
    loop {
        let message = tokio::select! {
            () = captured_others(&mut keep.captured) => {
                if let Some(last) = &mut acknowledged {
                    last.captured = captured(keep);
                    sender.send(request(Said::Acknowledgement(last.clone()))).await?;
                }
                continue;
            }
            message = tokio::time::timeout(SILENCE, stream.message()) => message.map_err(|_| late())?,
            () = keep.identities.renew(&channel) => continue,
        };
        let Some(FollowResponse { version, message: Some(message) }) = message.map_err(|status| told(&status))? else {
            return Err(Ended { why: "the controller has ended the stream".to_owned() });
        };
        answered();
        let workloads = match message {
            Message::Heartbeat(_) if version != keep.state.version() => {
                return Err(Ended { why: "the controller speaks of a version that is not held".to_owned() });
            }
            Message::Heartbeat(_) => None,
            Message::Slice(part) => {
                let Some(slice) = whole.add(part, keep.following.slice_bytes)? else { continue };
                keep.state.replace(&version, slice.objects)?;
                acknowledged = None;
                Some(slice.workloads)
            }
            Message::Changes(changes) => {
                keep.state.change(&version, changes.put, &changes.deleted)?;
                acknowledged = None;
                Some(changes.workloads)
            }
        };
        if let Some(workloads) = workloads {
            keep.identities.want(&workloads);
        }
        if acknowledged.is_none() {
            let status = keep.reloader.reload().await.map_err(|_| "the policy thread has ended")?;
            let said = acknowledged.insert(acknowledgement(keep, version, &status));
            sender.send(request(Said::Acknowledgement(said.clone()))).await?;
        }
        keep.state.heard();
        keep.silence.heard();
    }
}

/// A slice whose parts come one by one.
#[derive(Debug, Default)]
struct Whole {
    slice: protocol::Slice,
    bytes: usize,
}

impl Whole {
    /// All of it, once the last part is there.
    fn add(&mut self, part: protocol::Slice, most: usize) -> Result<Option<protocol::Slice>, Ended> {
        self.bytes += part.objects.iter().map(|object| object.json.len()).sum::<usize>();
        if self.bytes > most {
            return Err(Ended { why: format!("the slice has more than {most} bytes: raise --max-total-bytes") });
        }
        self.slice.objects.extend(part.objects);
        self.slice.workloads.extend(part.workloads);
        Ok(part.last.then(|| std::mem::take(self).slice))
    }
}

fn hello(serves: &Serves, version: &str) -> Hello {
    use protocol::hello::Serves as Said;
    let serves = match serves {
        Serves::Pod { namespace, name } => {
            Said::Pod(protocol::Pod { namespace: namespace.clone(), name: name.clone() })
        }
        Serves::Node(node) => Said::Node(node.clone()),
    };
    Hello { serves: Some(serves), version: version.to_owned() }
}

/// Waits until other pods are captured: never, where this proxy serves its own pod alone.
async fn captured_others(captured: &mut Option<watch::Receiver<BTreeSet<Arc<str>>>>) {
    if let Some(captured) = captured
        && captured.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Nothing of a proxy that serves its own pod alone.
fn captured(keep: &mut Keep) -> Option<Captured> {
    let names = keep.captured.as_mut()?.borrow_and_update().clone();
    let pod = |name: Arc<str>| {
        let (namespace, name) = name.split_once('/')?;
        Some(protocol::Pod { namespace: namespace.to_owned(), name: name.to_owned() })
    };
    Some(Captured { pods: names.into_iter().filter_map(pod).collect() })
}

fn acknowledgement(keep: &mut Keep, version: String, status: &Status) -> Acknowledgement {
    let failed = !status.good || status.self_test.is_some() || status.workloads.is_some();
    let result = match (failed, status.errors.is_empty() && status.held.is_empty()) {
        (true, _) => Outcome::NotInForce,
        (false, false) => Outcome::Partly,
        (false, true) => Outcome::InForce,
    };
    let refusals = status.errors.iter().take(REFUSALS).map(|error| Refusal {
        key: keep.state.key_at(&error.location),
        message: format!("{}: {}", error.code, error.message).chars().take(MESSAGE_LETTERS).collect(),
    });
    let refusals = refusals.collect();
    let world = keep.live.load();
    let generation = world.generation();
    Acknowledgement {
        version,
        generation: generation.number,
        hash: generation.hash.to_string(),
        result: result.into(),
        refusals,
        captured: captured(keep),
    }
}

fn request(message: Said) -> FollowRequest {
    FollowRequest { message: Some(message) }
}

fn told(status: &tonic::Status) -> Ended {
    Ended { why: format!("{:?}: {}", status.code(), status.message()) }
}

fn late() -> Ended {
    Ended { why: format!("the controller said nothing for {SILENCE:?}") }
}

/// The controller sends a heartbeat every few seconds.
const SILENCE: Duration = Duration::from_secs(20);

/// A part of a slice is about a megabyte, and one object more than that at most.
const MESSAGE_BYTES: usize = 16 << 20;

/// Documents that an acknowledgement names, and letters of what is wrong with each: it is one small message.
const REFUSALS: usize = 100;
const MESSAGE_LETTERS: usize = 300;
