//! A client's bytes give the same events wherever they are cut, and what is forwarded reads as what was judged. The
//! first byte says where to cut.
#![no_main]

use eastwall::http1::{BodyLength, BodyReader, HeadLimits, RequestHead, write};
use eastwall_policy::canonical::{Refusal, Scheme};
use eastwall_policy::world::CanonicalScope;
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { bytes: 2048, fields: 16 };

/// Requests that were complete, what goes to the upstream for them, and how it ended.
#[derive(Debug, PartialEq)]
struct Conversation {
    requests: usize,
    forwarded: Vec<u8>,
    end: Option<Refusal>,
}

fuzz_target!(|data: &[u8]| {
    let [stride, input @ ..] = data else { return };
    let whole = converse(input, input.len().max(1));
    assert_eq!(converse(input, usize::from(*stride) + 1), whole);
    // The upstream, as strict as we are, sees neither more nor other requests than were judged.
    let again = converse(&whole.forwarded, usize::MAX);
    assert_eq!(again.requests, whole.requests);
    if whole.end.is_none() {
        assert_eq!(again.forwarded, whole.forwarded);
    }
});

fn converse(input: &[u8], stride: usize) -> Conversation {
    let scope = CanonicalScope { watched_headers: vec!["x-role".into()], ..CanonicalScope::default() };
    let (mut head, mut body) = (RequestHead::default(), BodyReader::new(LIMITS));
    let mut seen = Conversation { requests: 0, forwarded: Vec::new(), end: None };
    let (mut start, mut end, mut in_body) = (0, 0, false);
    loop {
        let available = &input[start..end];
        let waits = if in_body {
            match body.read(available) {
                Err(refusal) => return Conversation { end: Some(refusal), ..seen },
                Ok(piece) => {
                    start += piece.consumed;
                    let chunked = head.body_length() == BodyLength::Chunked;
                    match (chunked, head.body_length()) {
                        // Borders of chunks are not kept, so data is written byte by byte: the same at every cut.
                        (true, _) => piece.data.iter().for_each(|byte| write::chunk(&[*byte], &mut seen.forwarded)),
                        _ => seen.forwarded.extend_from_slice(piece.data),
                    }
                    if piece.end {
                        match body.request_trailers(&scope) {
                            Ok(trailers) if chunked => write::last_chunk(trailers, &mut seen.forwarded),
                            Ok(_) => {}
                            Err(refusal) => return Conversation { end: Some(refusal), ..seen },
                        }
                        seen.requests += 1;
                        in_body = false;
                    }
                    !piece.end && piece.consumed == 0
                }
            }
        } else {
            match head.read(available, LIMITS, &scope, Scheme::Http) {
                Err(refusal) => return Conversation { end: Some(refusal), ..seen },
                Ok(None) => true,
                Ok(Some(taken)) => {
                    start += taken;
                    write::request_head(&head, &mut seen.forwarded);
                    body.begin(head.body_length());
                    in_body = true;
                    false
                }
            }
        };
        if waits {
            if end == input.len() {
                return seen;
            }
            end = end.saturating_add(stride).min(input.len());
        }
    }
}
