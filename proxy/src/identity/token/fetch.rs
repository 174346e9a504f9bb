//! Fetches a document over HTTP(S): one request, bounded in bytes and time, no redirect followed.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::TokenLimits;

/// Fetches sets of keys.
pub(super) struct Fetcher {
    most_bytes: usize,
    timeout: Duration,
    ca: Option<std::path::PathBuf>,
    /// Made when first needed: most proxies fetch nothing.
    tls: OnceLock<Result<TlsConnector, String>>,
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("`{0}` is no `http` or `https` URL of a host")]
    Address(String),
    #[error("{0}")]
    Certificates(String),
    #[error("{0} is no name of a server")]
    Name(#[from] InvalidDnsNameError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("the answer is {0}; redirects are not followed")]
    Status(StatusCode),
    #[error("the body: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("`{0}` is no configuration of an issuer: {1}")]
    Configuration(String, String),
}

/// What is needed of an issuer's configuration (OpenID Connect Discovery 1.0, 3).
#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

impl Fetcher {
    pub(super) fn new(limits: &TokenLimits) -> Self {
        Self {
            most_bytes: limits.jwks_bytes,
            timeout: limits.jwks_timeout,
            ca: limits.jwks_ca.clone(),
            tls: OnceLock::new(),
        }
    }

    /// The document at an address.
    pub(super) async fn fetch(&self, address: &str) -> Result<Vec<u8>, Failure> {
        tokio::time::timeout(self.timeout, self.request(address)).await.unwrap_or(Err(Failure::Late(self.timeout)))
    }

    /// The keys that an issuer's configuration names.
    pub(super) async fn discover(&self, issuer: &str) -> Result<Vec<u8>, Failure> {
        let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let text = self.fetch(&address).await?;
        let wrong = |why: String| Failure::Configuration(address.clone(), why);
        let read: Configuration = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if read.issuer != issuer {
            return Err(wrong(format!("it is of `{}`", read.issuer)));
        }
        self.fetch(&read.jwks_uri).await
    }

    async fn request(&self, address: &str) -> Result<Vec<u8>, Failure> {
        let wrong = || Failure::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(header::HOST, authority.as_str())
            .header(header::ACCEPT, "application/json, application/jwk-set+json")
            .header(header::USER_AGENT, concat!("eastwall/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())?;
        let stream = TcpStream::connect((host, port)).await?;
        if is_tls {
            let name = ServerName::try_from(host.to_owned())?;
            self.exchange(self.tls()?.connect(name, stream).await?, request).await
        } else {
            self.exchange(stream, request).await
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        request: Request<Empty<&'static [u8]>>,
    ) -> Result<Vec<u8>, Failure> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender, or with an error that the answer shows.
        let connection = tokio::task::spawn_local(connection);
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(Failure::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), self.most_bytes).collect().await.map_err(Failure::Body)?;
        connection.abort();
        Ok(body.to_bytes().to_vec())
    }

    fn tls(&self) -> Result<&TlsConnector, Failure> {
        let made = self.tls.get_or_init(|| connector(self.ca.as_deref()));
        made.as_ref().map_err(|error| Failure::Certificates(error.clone()))
    }
}

fn connector(ca: Option<&std::path::Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "certificates of the system");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca {
        let wrong = |error: &dyn std::fmt::Display| format!("`--jwks-ca` {}: {error}", path.display());
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
            roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        }
    }
    if roots.is_empty() {
        return Err(
            "no authority is believed: there are no certificates of the system, so name one by `--jwks-ca`".into()
        );
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
