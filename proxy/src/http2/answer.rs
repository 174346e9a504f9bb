//! Answers of our own: refusals and failures, in the form that the client understands.

use bytes::Bytes;
use eastwall_policy::facts::Protocol;
use h2::Reason;
use h2::SendStream;
use h2::server::SendResponse;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use crate::connection::CHALLENGE;
use crate::observe::DecisionId;

/// The header that a denied client finds its decision in.
pub(super) const DECISION_ID: HeaderName = HeaderName::from_static("x-eastwall-decision-id");

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What is said instead of the upstream's answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// A policy refuses it.
    Denied(DecisionId),
    /// Its token is refused.
    Unauthenticated(DecisionId),
    /// It is no canonical request.
    Rejected(u16, DecisionId),
    /// The upstream cannot be reached, or broke off before its answer.
    Unavailable,
}

impl Answer {
    /// The HTTP status; a gRPC answer is always 200 with the real one behind it.
    pub(super) fn status(self, protocol: Protocol) -> u16 {
        match (self, protocol) {
            (Self::Denied(_) | Self::Unauthenticated(_) | Self::Unavailable, Protocol::Grpc) => 200,
            (Self::Unauthenticated(_), _) => 401,
            (Self::Denied(_), _) => 403,
            (Self::Rejected(status, _), _) => status,
            (Self::Unavailable, _) => 502,
        }
    }

    /// Answers a stream whose response head was not sent yet.
    pub(super) fn send(self, respond: &mut SendResponse<Bytes>, protocol: Protocol) {
        let mut response = Response::new(());
        let status = self.status(protocol);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        let headers = response.headers_mut();
        let body = match self.grpc(protocol) {
            Some(trailers) => {
                *headers = trailers;
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                None
            }
            None => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                self.name(headers);
                if let Self::Unauthenticated(_) = self {
                    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
                }
                Some(match self {
                    Self::Denied(_) | Self::Unauthenticated(_) => Bytes::from_static(b"denied by policy\n"),
                    Self::Rejected(..) => Bytes::from_static(b"not a valid request\n"),
                    Self::Unavailable => Bytes::from_static(b"upstream unavailable\n"),
                })
            }
        };
        // A client that is gone needs no answer.
        if let Ok(mut stream) = respond.send_response(response, body.is_none())
            && let Some(body) = body
        {
            let _ = stream.send_data(body, true);
        }
    }

    /// Ends a response that has begun: gRPC has its trailers, anything else is reset.
    pub(super) fn cut(self, stream: &mut SendStream<Bytes>, protocol: Protocol) {
        let ended = self.grpc(protocol).is_some_and(|trailers| stream.send_trailers(trailers).is_ok());
        if !ended {
            stream.send_reset(Reason::CANCEL);
        }
    }

    fn grpc(self, protocol: Protocol) -> Option<HeaderMap> {
        let (status, message) = match self {
            _ if protocol != Protocol::Grpc => return None,
            Self::Denied(_) => ("7", "denied by policy"),
            Self::Unauthenticated(_) => ("16", "denied by policy"),
            Self::Unavailable => ("14", "upstream unavailable"),
            Self::Rejected(..) => return None,
        };
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(GRPC_STATUS, HeaderValue::from_static(status));
        headers.insert(GRPC_MESSAGE, HeaderValue::from_static(message));
        self.name(&mut headers);
        Some(headers)
    }

    fn name(self, headers: &mut HeaderMap) {
        if let Self::Denied(id) | Self::Unauthenticated(id) | Self::Rejected(_, id) = self
            && let Ok(value) = HeaderValue::from_bytes(&id.hexadecimal())
        {
            headers.insert(DECISION_ID, value);
        }
    }
}
