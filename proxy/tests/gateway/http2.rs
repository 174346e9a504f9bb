//! HTTP/2 and gRPC: a verdict on every stream, and everything that a stream can do carried through.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};

use crate::harness::{ATTACKER, Gateway, ORDERS, WEB, policy};

type Seen = Arc<Mutex<Vec<Request<()>>>>;

/// Answers by path: `/orders/*` with the body that it got, `/shop.v1.Orders/*` as gRPC does.
async fn serve(listener: tokio::net::TcpListener, seen: Seen) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                let (parts, body) = request.into_parts();
                seen.lock().unwrap().push(Request::from_parts(parts.clone(), ()));
                tokio::spawn(answer(parts.uri.path().to_owned(), body, respond));
            }
        });
    }
}

async fn answer(path: String, mut body: RecvStream, mut respond: h2::server::SendResponse<Bytes>) {
    match path.as_str() {
        "/orders/reset" => return respond.send_reset(Reason::ENHANCE_YOUR_CALM),
        "/orders/never" => {
            // Until the client loses patience.
            let reset = std::future::poll_fn(|context| respond.poll_reset(context)).await;
            assert_eq!(reset.unwrap(), Reason::CANCEL);
            return;
        }
        _ => {}
    }
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        stream.reserve_capacity(data.len());
        let mut data = data;
        while !data.is_empty() {
            let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await.unwrap().unwrap();
            let piece = data.split_to(room.min(data.len()));
            stream.send_data(piece, false).unwrap();
        }
    }
    let mut trailers = body.trailers().await.unwrap().unwrap_or_default();
    trailers.insert("grpc-status", "0".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
}

fn rules() -> String {
    policy(
        "  - {name: reads, from: [{serviceAccount: web}], http: [{methods: [GET, POST], paths: [\"/orders/{id}\"]}]}\n  \
         - {name: rpc, from: [{serviceAccount: web}], grpc: [{service: shop.v1.Orders, methods: [Get]}]}",
    )
}

async fn start() -> (Gateway, Seen) {
    start_with(&[]).await
}

async fn start_with(flags: &[&str]) -> (Gateway, Seen) {
    let listener = tokio::net::TcpListener::bind((ORDERS, 0)).await.unwrap();
    let seen = Seen::default();
    let gateway = Gateway::with(&rules(), listener.local_addr().unwrap(), "http", flags);
    tokio::spawn(serve(listener, Arc::clone(&seen)));
    (gateway, seen)
}

async fn connect(gateway: &Gateway, from: IpAddr) -> SendRequest<Bytes> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    let stream = socket.connect(gateway.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}

fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://orders{path}")).body(()).unwrap()
}

fn grpc(path: &str) -> Request<()> {
    let mut request = request("POST", path);
    request.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    request.headers_mut().insert("grpc-timeout", "5S".parse().unwrap());
    request
}

async fn ask(sender: &SendRequest<Bytes>, request: Request<()>, body: &[u8]) -> (Response<()>, Vec<u8>, HeaderMap) {
    let mut sender = sender.clone().ready().await.unwrap();
    let (response, mut stream) = sender.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body), true).unwrap();
    }
    let (parts, mut body) = response.await.unwrap().into_parts();
    let mut data = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        data.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    (Response::from_parts(parts, ()), data, trailers)
}

#[tokio::test]
async fn every_stream_has_its_own_verdict() {
    let (gateway, seen) = start().await;
    let sender = connect(&gateway, WEB).await;
    let (response, data, _) = ask(&sender, request("POST", "/orders/7"), b"hello").await;
    assert_eq!((response.status().as_u16(), data), (200, b"hello".to_vec()));
    let (response, ..) = ask(&sender, request("DELETE", "/orders/7"), b"").await;
    assert_eq!(response.status(), 403);
    assert_eq!(response.headers()["x-eastwall-decision-id"].len(), 32);
    let (response, ..) = ask(&sender, request("GET", "/orders/8"), b"").await;
    assert_eq!(response.status(), 200);
    let sender = connect(&gateway, ATTACKER).await;
    let (response, ..) = ask(&sender, request("GET", "/orders/8"), b"").await;
    assert_eq!(response.status(), 403);
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn grpc_is_denied_in_its_own_words() {
    let (gateway, seen) = start().await;
    let sender = connect(&gateway, WEB).await;
    let (response, data, trailers) = ask(&sender, grpc("/shop.v1.Orders/Get"), b"\0\0\0\0\x01a").await;
    assert_eq!((response.status().as_u16(), data), (200, b"\0\0\0\0\x01a".to_vec()));
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(seen.lock().unwrap()[0].headers()["grpc-timeout"], "5S");
    let (response, data, trailers) = ask(&sender, grpc("/shop.v1.Orders/Delete"), b"\0\0\0\0\x01a").await;
    assert_eq!((response.status().as_u16(), data.len(), trailers.len()), (200, 0, 0), "trailers only");
    assert_eq!(response.headers()["grpc-status"], "7");
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

/// Attacks 1, 2, 10, 23, 26 and 36.
#[tokio::test]
async fn ambiguous_streams_are_refused_and_the_others_go_on() {
    let (gateway, seen) = start().await;
    let sender = connect(&gateway, WEB).await;
    let with = |name: &'static str, value: &str| {
        let mut request = request("GET", "/orders/7");
        request.headers_mut().append(name, value.parse().unwrap());
        request
    };
    for refused in [
        request("GET", "/orders/%2F"),
        request("GET", "/orders;x/7"),
        request("GET", "/orders/%00"),
        with("host", "other"),
        with("x-http-method-override", "DELETE"),
    ] {
        let shown = format!("{refused:?}");
        let (response, ..) = ask(&sender, refused, b"").await;
        assert_eq!(response.status(), 400, "{shown}");
    }
    let (response, ..) = ask(&sender, with("x-eastwall-identity", "forged"), b"").await;
    assert_eq!(response.status(), 200);
    let (response, ..) = ask(&sender, request("GET", "/x/../orders/%37?q=%2f"), b"").await;
    assert_eq!(response.status(), 200);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].headers().get("x-eastwall-identity").is_none());
    assert_eq!(seen[1].uri().to_string(), "http://orders/orders/7?q=%2f");
}

#[tokio::test]
async fn resets_pass_both_ways() {
    let (gateway, seen) = start().await;
    let sender = connect(&gateway, WEB).await;
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, _) = ready.send_request(request("GET", "/orders/reset"), true).unwrap();
    assert_eq!(response.await.unwrap_err().reason(), Some(Reason::ENHANCE_YOUR_CALM));
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, mut stream) = ready.send_request(request("POST", "/orders/never"), false).unwrap();
    while seen.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    stream.send_reset(Reason::CANCEL);
    assert!(response.await.is_err());
    let (response, ..) = ask(&sender, request("GET", "/orders/8"), b"").await;
    assert_eq!(response.status(), 200, "the connection goes on");
}

#[tokio::test]
async fn trailers_and_large_bodies_pass() {
    let (gateway, _) = start().await;
    let sender = connect(&gateway, WEB).await;
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, mut stream) = ready.send_request(request("POST", "/orders/1"), false).unwrap();
    let data: Vec<u8> = (0..3_000_000).map(|at: u32| (at % 251) as u8).collect();
    let sent = data.clone();
    tokio::spawn(async move {
        let mut rest = Bytes::from(sent);
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await.unwrap().unwrap();
            let piece = rest.split_to(room.min(rest.len()));
            stream.send_data(piece, false).unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        trailers.insert("x-eastwall-decision-id", "forged".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    });
    let mut body = response.await.unwrap().into_body();
    let mut got = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        got.extend_from_slice(&piece);
    }
    assert!(got == data);
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["x-sum"], "1");
    assert!(trailers.get("x-eastwall-decision-id").is_none());
}

/// Attack 40: a client that resets faster than it is served is sent away, whether it waits for the upstream or not.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let (gateway, seen) = start().await;
    for waits in [false, true] {
        let sender = connect(&gateway, WEB).await;
        let mut sent = 0;
        while let Ok(mut ready) = sender.clone().ready().await {
            let before = seen.lock().unwrap().len();
            let Ok((_, mut stream)) = ready.send_request(request("POST", "/orders/never"), false) else { break };
            if waits {
                let patience = Instant::now() + Duration::from_secs(1);
                while seen.lock().unwrap().len() == before && Instant::now() < patience {
                    tokio::task::yield_now().await;
                }
            }
            stream.send_reset(Reason::CANCEL);
            sent += 1;
            assert!(sent < 20_000, "nobody stops it (waits: {waits})");
            tokio::task::yield_now().await;
        }
    }
    let fresh = connect(&gateway, WEB).await;
    let (response, ..) = ask(&fresh, request("GET", "/orders/8"), b"").await;
    assert_eq!(response.status(), 200, "others are served");
}

#[tokio::test]
async fn an_open_grpc_stream_loses_its_permission() {
    let (gateway, _) = start().await;
    let sender = connect(&gateway, WEB).await;
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, mut stream) = ready.send_request(grpc("/shop.v1.Orders/Get"), false).unwrap();
    stream.send_data(Bytes::from_static(b"\0\0\0\0\x01a"), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), b"\0\0\0\0\x01a".as_slice());
    gateway.rewrite(&rules().replace("shop.v1.Orders", "shop.v1.Other"));
    assert!(body.data().await.is_none());
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "7");
    let (response, ..) = ask(&sender, request("GET", "/orders/8"), b"").await;
    assert_eq!(response.status(), 200, "what both allow goes on");
}

#[tokio::test]
async fn a_drain_says_goaway_and_ends_what_is_open() {
    let (mut gateway, seen) = start().await;
    let sender = connect(&gateway, WEB).await;
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, mut stream) = ready.send_request(request("POST", "/orders/1"), false).unwrap();
    while seen.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    gateway.signal(rustix::process::Signal::TERM);
    while let Ok(mut ready) = sender.clone().ready().await {
        // Until the news is here.
        let Ok((response, _)) = ready.send_request(request("GET", "/denied"), true) else { break };
        if response.await.is_err() {
            break;
        }
    }
    stream.send_data(Bytes::from_static(b"last"), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), b"last".as_slice());
    drop((body, sender, stream, ready));
    assert_eq!(gateway.wait(), Some(0));
}

/// Attack 40: streams that were opened and reset while the upstream had no place for them leave nothing behind.
#[tokio::test]
async fn who_leaves_while_waiting_for_a_place_upstream_waits_no_more() {
    let listener = tokio::net::TcpListener::bind((ORDERS, 0)).await.unwrap();
    let gateway = Gateway::start(&rules(), listener.local_addr().unwrap());
    let (held, mut holds) = tokio::sync::mpsc::unbounded_channel::<h2::server::SendResponse<Bytes>>();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::Builder::new().max_concurrent_streams(1).handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            if request.uri().path() == "/orders/1" {
                respond.send_response(Response::new(()), true).unwrap();
            } else {
                held.send(respond).unwrap();
            }
        }
    });
    let mut sender = connect(&gateway, WEB).await;
    assert_eq!(ask(&sender, request("GET", "/orders/1"), b"").await.0.status(), 200);
    let (_first, _) = sender.send_request(request("GET", "/orders/held"), true).unwrap();
    let _held = holds.recv().await.unwrap();
    let (waits, mut stream) = sender.send_request(request("GET", "/orders/waits"), true).unwrap();
    // The gateway has judged it once it answers what came behind it.
    assert_eq!(ask(&sender, request("DELETE", "/orders/7"), b"").await.0.status(), 403);
    stream.send_reset(Reason::CANCEL);
    drop(waits);
    let end = Instant::now() + Duration::from_secs(20);
    while !gateway.log().contains("/orders/waits") {
        assert!(Instant::now() < end, "it still waits: {}", gateway.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn heads_are_bounded_counted_and_logged() {
    let (gateway, seen) = start().await;
    let sender = connect(&gateway, WEB).await;
    let mut large = request("GET", "/orders/1");
    large.headers_mut().insert("x-a", "a".repeat(100_000).parse().unwrap());
    let mut many = request("GET", "/orders/1");
    for _ in 0..101 {
        many.headers_mut().append("x-a", "b".parse().unwrap());
    }
    for (head, reason) in [(large, "head-too-large"), (many, "too-many-fields")] {
        assert_eq!(ask(&sender, head, b"").await.0.status(), 431, "{reason}");
        gateway.wait_for_log(reason);
    }
    assert_eq!(ask(&sender, request("GET", "/orders/1"), b"").await.0.status(), 200, "the connection goes on");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

/// Attack 40, with a bound of one's own.
#[tokio::test]
async fn resets_are_bounded_and_counted() {
    let (gateway, seen) = start_with(&["--stream-resets", "3"]).await;
    let sender = connect(&gateway, WEB).await;
    let mut sent = 0;
    while let Ok(mut ready) = sender.clone().ready().await {
        let before = seen.lock().unwrap().len();
        let Ok((response, mut stream)) = ready.send_request(request("POST", "/orders/never"), false) else { break };
        let patience = Instant::now() + Duration::from_secs(1);
        while seen.lock().unwrap().len() == before && Instant::now() < patience {
            tokio::task::yield_now().await;
        }
        stream.send_reset(Reason::CANCEL);
        assert!(response.await.is_err());
        sent += 1;
        assert!(sent < 50, "nobody stops it");
    }
    gateway.wait_for_refusal("stream-resets");
}

/// Attack 45: answers that nobody reads stop at their own windows.
#[tokio::test]
async fn streams_whose_readers_pause_do_not_hold_up_others() {
    let listener = tokio::net::TcpListener::bind((ORDERS, 0)).await.unwrap();
    let gateway = Gateway::start(&rules(), listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let length = if request.uri().path() == "/orders/1" { 5 } else { 2 << 20 };
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from(vec![b'x'; length]), true).unwrap();
        }
    });
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(WEB, 0)).unwrap();
    let stream = socket.connect(gateway.address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (mut sender, connection) =
        builder.initial_connection_window_size(1 << 24).handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let mut paused = Vec::new();
    for _ in 0..8 {
        let (response, _) = sender.send_request(request("GET", "/orders/2"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        // Read, and never given back: the window stays shut.
        let mut read = 0;
        while read < 65_535 {
            read += body.data().await.unwrap().unwrap().len();
        }
        paused.push(body);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = tokio::time::timeout(Duration::from_secs(20), ask(&sender, request("GET", "/orders/1"), b"")).await;
    assert_eq!(answer.expect("an answer beside paused ones").1, b"xxxxx");
}
