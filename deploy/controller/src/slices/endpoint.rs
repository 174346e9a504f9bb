//! The gRPC server of both services: TLS 1.3, HTTP/2, bounded in everything that a caller could ask for.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use eastwall_protocol::v1alpha1::certificates_server::{CertificatesServer, SERVICE_NAME as CERTIFICATES};
use eastwall_protocol::v1alpha1::slices_server::{Slices, SlicesServer};
use eastwall_protocol::v1alpha1::{FollowRequest, FollowResponse};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Service as _;
use tonic::{Code, Request, Response, Status, Streaming};

use super::caller::{Caller, Gate, Reviewer};
use super::directory::Directory;
use super::fleet::Fleet;
use super::follow;
use super::rate::Rate;
use super::settings::Settings;
use super::slice::Serves;
use crate::authority::{Authority, Certificates};
use crate::cluster::Store;
use crate::metrics::Metrics;

/// Both services, ready to serve.
#[derive(Clone)]
pub struct Endpoint {
    fleet: Arc<Fleet>,
    callers: Arc<Callers>,
    authority: Arc<Authority>,
}

/// Lets callers in, and knows what they may.
pub(crate) struct Callers {
    gate: Gate,
    rate: Rate,
    directory: watch::Receiver<Arc<Directory>>,
    metrics: Arc<Metrics>,
    pub(super) settings: Settings,
}

/// Where a call comes from.
#[derive(Clone, Copy, Debug)]
struct Remote(SocketAddr);

impl Endpoint {
    /// Serves what the store holds to whom the reviewer knows. Needs a running runtime.
    #[must_use]
    pub fn new(
        store: &Store,
        reviewer: Arc<dyn Reviewer>,
        authority: Arc<Authority>,
        settings: Settings,
        metrics: Arc<Metrics>,
    ) -> Self {
        let directory = Directory::follow(store, settings.gather);
        let callers = Callers {
            gate: Gate::new(reviewer, settings.reviews, settings.patience),
            rate: Rate::new(settings.calls, settings.calls_per_second),
            directory: directory.clone(),
            metrics,
            settings,
        };
        Self { fleet: Arc::new(Fleet::new(directory)), callers: Arc::new(callers), authority }
    }

    /// The proxies that follow.
    #[must_use]
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Accepts until `end`; connections then are cut, and their proxies go elsewhere.
    ///
    /// # Errors
    /// The listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        end: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let places = Arc::new(Semaphore::new(self.callers.settings.connections));
        let mut connections = tokio::task::JoinSet::new();
        let acceptor = TlsAcceptor::from(tls);
        tokio::pin!(end);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = connections.join_next(), if !connections.is_empty() => continue,
                () = &mut end => return Ok(()),
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::warn!(%remote, "a connection too many is refused");
                continue;
            };
            let (endpoint, acceptor) = (self.clone(), acceptor.clone());
            connections.spawn(async move {
                let _place = place;
                if let Err(error) = endpoint.connection(stream, remote, acceptor).await {
                    tracing::debug!(%remote, error, "a connection ends");
                }
            });
        }
    }

    async fn connection(&self, stream: TcpStream, remote: SocketAddr, acceptor: TlsAcceptor) -> Result<(), String> {
        let settings = &self.callers.settings;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let stream = tokio::time::timeout(settings.patience, acceptor.accept(stream)).await;
        let stream = stream.map_err(|_| "no handshake in time")?.map_err(|error| error.to_string())?;
        let follow = Follow { fleet: Arc::clone(&self.fleet), callers: Arc::clone(&self.callers) };
        let slices = SlicesServer::new(follow).max_decoding_message_size(settings.message_bytes);
        let sign = Certificates { authority: Arc::clone(&self.authority), callers: Arc::clone(&self.callers) };
        let certificates = CertificatesServer::new(sign).max_decoding_message_size(settings.message_bytes);
        let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(Remote(remote));
            let (mut slices, mut certificates) = (slices.clone(), certificates.clone());
            async move {
                let service = request.uri().path().split('/').nth(1);
                let response = if service == Some(CERTIFICATES) {
                    certificates.call(request).await
                } else {
                    slices.call(request).await
                };
                response as Result<_, Infallible>
            }
        });
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.streams)
            .max_header_list_size(HEAD_BYTES)
            .keep_alive_interval(settings.heartbeat * 2)
            .keep_alive_timeout(settings.patience)
            .serve_connection(TokioIo::new(stream), service)
            .await
            .map_err(|error| error.to_string())
    }
}

impl Callers {
    /// Who calls, if he may call at all.
    pub(crate) async fn admit<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let remote = request.extensions().get::<Remote>().map(|remote| remote.0.ip());
        if !remote.is_some_and(|remote| self.rate.takes(remote, Instant::now())) {
            return Err(self.refuse(Status::resource_exhausted("too many calls from this address: wait")));
        }
        let caller = self.gate.caller(request.metadata(), &self.directory()).await;
        caller.map_err(|status| {
            tracing::warn!(?remote, %status, "a caller is not let in");
            self.refuse(status)
        })
    }

    /// Counts a refusal.
    pub(crate) fn refuse(&self, status: Status) -> Status {
        let [rate, token, permission, unavailable] = Self::REASONS;
        let reason = match status.code() {
            Code::ResourceExhausted => rate,
            Code::Unauthenticated => token,
            Code::PermissionDenied => permission,
            _ => unavailable,
        };
        self.metrics.refused_caller(reason);
        status
    }

    /// Why a caller is not let in: it calls too often; its token is not good; it asks for what is not its own, or has ended;
    /// it cannot be judged yet.
    pub(crate) const REASONS: [&str; 4] = ["rate", "token", "permission", "unavailable"];

    /// Counts what became of a request for a certificate.
    pub(crate) fn asked_for_certificate<T>(&self, signed: &Result<T, Status>) {
        self.metrics.certificate(match signed.as_ref().map_err(Status::code) {
            Ok(_) => "success",
            Err(Code::Internal) => "error",
            Err(_) => "refused",
        });
    }

    /// The cluster as it is now.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.borrow())
    }

    /// See [`Caller::may_serve`].
    pub(crate) fn may_serve(&self, caller: &Caller, serves: &Serves) -> Result<(), Status> {
        caller.may_serve(serves, &self.settings.node_accounts)
    }
}

struct Follow {
    fleet: Arc<Fleet>,
    callers: Arc<Callers>,
}

#[tonic::async_trait]
impl Slices for Follow {
    type FollowStream = ReceiverStream<Result<FollowResponse, Status>>;

    async fn follow(&self, request: Request<Streaming<FollowRequest>>) -> Result<Response<Self::FollowStream>, Status> {
        let caller = self.callers.admit(&request).await?;
        let said = request.into_inner();
        let (answers, receiver) = mpsc::channel(follow::ANSWERS);
        let (fleet, callers) = (Arc::clone(&self.fleet), Arc::clone(&self.callers));
        tokio::spawn(async move { follow::serve(caller, said, answers, &fleet, &callers).await });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// A token takes most of it.
const HEAD_BYTES: u32 = 32 << 10;
