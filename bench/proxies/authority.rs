//! The authority that ztunnel asks for its certificate: `CreateCertificate` of Istio's `IstioCertificateService`, over gRPC.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, server};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio_rustls::TlsAcceptor;

use crate::identities;
use crate::process::Failure;

/// Signs whatever it is asked to, with the authority in that folder, until it is ended.
pub(crate) fn serve(listen: SocketAddr, folder: &Path) -> Result<(), Failure> {
    let acceptor = TlsAcceptor::from(identities::server(folder, false)?);
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (socket, _) = listener.accept().await?;
            let (acceptor, folder) = (acceptor.clone(), folder.to_owned());
            tokio::task::spawn_local(async move {
                if let Err(error) = answer_all(acceptor, socket, folder).await {
                    eprintln!("{error}");
                }
            });
        }
    })
}

async fn answer_all(acceptor: TlsAcceptor, socket: TcpStream, folder: PathBuf) -> Result<(), Failure> {
    let mut connection = server::handshake(acceptor.accept(socket).await?).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let folder = folder.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = answer(request, respond, &folder).await {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, folder: &Path) -> Result<(), Failure> {
    let mut body = request.into_body();
    let mut asked = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        asked.extend_from_slice(&data);
    }
    // Behind the head of a gRPC message.
    let message = asked.get(HEAD..).ok_or("a request without a message")?;
    let request = first_string(message).ok_or("a request without a certificate signing request")?;
    let chain: Vec<u8> = identities::sign(folder, request)?.iter().flat_map(|one| string(one)).collect();
    let mut answer = vec![0];
    answer.extend(u32::try_from(chain.len())?.to_be_bytes());
    answer.extend(chain);
    let response = Response::builder().header("content-type", "application/grpc").body(())?;
    let mut sending = respond.send_response(response, false)?;
    sending.send_data(answer.into(), false)?;
    sending.send_trailers(HeaderMap::from_iter([("grpc-status".parse()?, HeaderValue::from_static("0"))]))?;
    Ok(())
}

/// Compressed or not, and the length.
const HEAD: usize = 5;
/// Of field 1, which is a string: `csr` of the request, each of `cert_chain` of the answer.
const TAG: u8 = 0x0a;

/// Field 1 of a message of Protocol Buffers that begins with it.
fn first_string(message: &[u8]) -> Option<&str> {
    let (&TAG, mut rest) = message.split_first()? else { return None };
    let mut length = 0;
    for shift in (0..28).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return std::str::from_utf8(rest.get(..length)?).ok();
        }
    }
    None
}

fn string(text: &str) -> Vec<u8> {
    let mut field = vec![TAG];
    let mut length = text.len();
    while length >= 0x80 {
        field.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend(text.as_bytes());
    field
}
