//! Where the node's CNI plugin hands over pods: a Unix socket for root alone, one JSON object a line each way.
//!
//! ```text
//! {"add":{"namespace":"shop","name":"web-1","uid":"…","netns":"/run/netns/cni-1","ips":["10.0.0.3"]}}
//! {"delete":{"namespace":"shop","name":"web-1","uid":"…","netns":"/run/netns/cni-1"}}
//! {"check":{"namespace":"shop","name":"web-1","netns":"/run/netns/cni-1"}}
//! {"status":{}}
//! ```
//!
//! `{"ok":true}`, with `"exempt":true` for a pod that is left alone, or `{"ok":false,"error":"…"}`, with `"retry":true`
//! where it may be another matter in a moment.

mod door;
mod protocol;

pub(crate) use door::{Bounds, Door};
