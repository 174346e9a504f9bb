//! One connection to a controller: TLS 1.3 to a name, HTTP/2, the token of this pod in every call.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::Service;

use super::settings::Following;

/// What calls go through.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    sender: SendRequest<Body>,
    token: PathBuf,
}

/// Why there is no connection, or no call.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("`{}`: {why}", path.display())]
    File { path: PathBuf, why: String },
    #[error("`{0}` is no name of a server")]
    Name(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no connection within {PATIENCE:?}")]
    Late,
}

impl Channel {
    /// Connects. Files are read anew: they are replaced while the proxy runs.
    pub(super) async fn connect(following: &Following, address: &str) -> Result<Self, Failure> {
        tokio::time::timeout(PATIENCE, Self::open(following, address)).await.unwrap_or(Err(Failure::Late))
    }

    async fn open(following: &Following, address: &str) -> Result<Self, Failure> {
        let name = ServerName::try_from(following.name.clone()).map_err(|_| Failure::Name(following.name.clone()))?;
        let tls = TlsConnector::from(Arc::new(client(following)?));
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = tls.connect(name, stream).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(PATIENCE)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the controller ends");
            }
        });
        Ok(Self { sender, token: following.token.clone() })
    }

    /// Where calls go: the connection is there already.
    pub(super) fn origin() -> Uri {
        Uri::from_static("https://eastwall-controller")
    }

    fn token(&self) -> Result<HeaderValue, Failure> {
        let wrong = |why: String| Failure::File { path: self.token.clone(), why };
        let token = std::fs::read_to_string(&self.token).map_err(|error| wrong(error.to_string()))?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| wrong("is no token: it is not one line of text".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.sender.poll_ready(context).map_err(Failure::from)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let token = self.token();
        let mut sender = self.sender.clone();
        Box::pin(async move {
            request.headers_mut().insert(AUTHORIZATION, token?);
            Ok(sender.send_request(request).await?)
        })
    }
}

fn client(following: &Following) -> Result<ClientConfig, Failure> {
    let wrong = |why: String| Failure::File { path: following.ca.clone(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&following.ca).map_err(|error| wrong(error.to_string()))? {
        roots.add(certificate.map_err(|error| wrong(error.to_string()))?).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("has no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// For a connection, and for an answer to a ping.
const PATIENCE: Duration = Duration::from_secs(5);

/// Heartbeats come more often; this finds a connection that is dead in one direction.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
