//! What is measured, each with its input made and its answer compared beforehand.

use std::fmt::Debug;
use std::hint::black_box;
use std::sync::Arc;

use eastwall::detect::{Sniffed, sniff};
use eastwall::http1::{Asked, BodyLength, BodyReader, HeadLimits, MAX_FIELDS, RequestHead, ResponseHead};
use eastwall::tls::{self, ClientHello};
use eastwall_policy::canonical::{self, Options, Scheme};
use eastwall_policy::dialect;
use eastwall_policy::facts::{Connection, Direction, Transport};
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::{CanonicalScope, Flow, World};

/// One part.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) make: fn() -> Part,
}

pub(crate) type Part = Box<dyn FnMut()>;

/// What runs is what was compared: the same closure, so that no refusal is measured for an answer.
fn part<T: Debug + PartialEq>(mut run: impl FnMut() -> T + 'static, expected: &T) -> Part {
    assert_eq!(&run(), expected);
    Box::new(move || {
        black_box(run());
    })
}

/// Every part, in the order in which a request meets them.
pub(crate) const ALL: &[Case] = &[
    Case { name: "detect: HTTP/1", make: || detecting(SMALL.as_bytes(), Sniffed::Http1) },
    Case { name: "detect: HTTP/2", make: || detecting(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Sniffed::Http2) },
    Case { name: "detect: TLS", make: || detecting(&hello(), Sniffed::Tls) },
    Case { name: "detect: something else", make: || detecting(b"\0\0\0\x08\x04\xd2\x16\x2f", Sniffed::Other) },
    Case { name: "parse: ClientHello of 300 bytes", make: client_hello },
    Case { name: "parse: request head, 3 lines", make: || request_head(SMALL.to_owned()) },
    Case { name: "parse: request head, 30 lines", make: || request_head(large()) },
    Case { name: "parse: request head to canonicalise, 5 lines", make: uncanonical_head },
    Case { name: "parse: response head, 4 lines", make: response_head },
    Case { name: "parse: chunked body of 4 KiB in 4 chunks", make: chunked },
    Case { name: "canonical path: plain", make: || path("/api/v1/orders/17", "/api/v1/orders/17") },
    Case { name: "canonical path: dot segments", make: || path("/api/./v0/../v1/orders/17", "/api/v1/orders/17") },
    Case { name: "canonical path: escapes", make: || path("/%61pi/v1/%6Frders/17", "/api/v1/orders/17") },
    Case { name: "canonical authority", make: authority },
    Case { name: "decide: 10 rules", make: || deciding(10) },
    Case { name: "decide: 1,000 rules", make: || deciding(1_000) },
    Case { name: "decide: 10,000 rules", make: || deciding(10_000) },
];

const SMALL: &str =
    "GET /api/v1/orders/17 HTTP/1.1\r\nhost: orders.shop:8080\r\nuser-agent: curl/8.5.0\r\naccept: */*\r\n\r\n";
/// As in the proxy where nothing else is set.
const HELLO_BYTES: usize = 16_384;
const LIMITS: HeadLimits = HeadLimits { bytes: 61_440, fields: MAX_FIELDS };

fn large() -> String {
    let lines: String =
        (0..27).map(|number| format!("x-header-{number}: a value of usual length, {number}\r\n")).collect();
    SMALL.replace("accept: */*\r\n", &format!("accept: */*\r\n{lines}"))
}

fn detecting(bytes: &[u8], expected: Sniffed) -> Part {
    let bytes = bytes.to_vec();
    part(move || sniff(black_box(&bytes)), &expected)
}

/// A ClientHello of TLS 1.3 as clients send it (RFC 8446 4.1.2): a name, an application protocol, a key share.
fn hello() -> Vec<u8> {
    fn with_length<const BYTES: usize>(body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u64).to_be_bytes();
        [&length[8 - BYTES..], body].concat()
    }
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &with_length::<2>(body)].concat();
    let name = with_length::<2>(&[&[0][..], &with_length::<2>(b"orders.shop.svc.cluster.local")].concat());
    let extensions = [
        extension(0, &name),
        extension(16, &with_length::<2>(&[with_length::<1>(b"h2"), with_length::<1>(b"http/1.1")].concat())),
        extension(10, &with_length::<2>(&[0, 29, 0, 23])),
        extension(13, &with_length::<2>(&[4, 3, 8, 4, 8, 7])),
        extension(43, &with_length::<1>(&[3, 4])),
        extension(51, &with_length::<2>(&[&[0, 29][..], &with_length::<2>(&[7; 32])].concat())),
        extension(21, &[0; 81]),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[1; 32],
        &with_length::<1>(&[2; 32]),
        &with_length::<2>(&[0x13, 1, 0x13, 2, 0x13, 3]),
        &with_length::<1>(&[0]),
        &with_length::<2>(&extensions),
    ]
    .concat();
    let handshake = [&[1][..], &with_length::<3>(&body)].concat();
    [&[22, 3, 1][..], &with_length::<2>(&handshake)].concat()
}

fn client_hello() -> Part {
    let bytes = hello();
    assert_eq!(bytes.len(), 300);
    let expected = ClientHello {
        server_name: Some(b"orders.shop.svc.cluster.local".to_vec()),
        application_protocol: Some(b"h2".to_vec()),
        encrypted: false,
    };
    part(move || tls::read(black_box(&bytes), HELLO_BYTES), &Ok(Some(expected)))
}

fn request_head(text: String) -> Part {
    let (scope, mut head) = (CanonicalScope::default(), RequestHead::default());
    assert_eq!(head.read(text.as_bytes(), LIMITS, &scope, Scheme::Http), Ok(Some(text.len())));
    assert_eq!(head.path(), Some(b"/api/v1/orders/17".as_slice()));
    assert_eq!(head.host(), Some(b"orders.shop".as_slice()));
    let whole = Ok(Some(text.len()));
    part(move || head.read(black_box(text.as_bytes()), LIMITS, &scope, Scheme::Http), &whole)
}

/// Every step of canonicalisation has something to do: target in absolute form, path, host, a field of one hop.
fn uncanonical_head() -> Part {
    let text = "GET http://Orders.Shop:8080/api/./v0/../v1/%6Frders/17?page=2 HTTP/1.1\r\nHost: Orders.Shop:8080\r\n\
                User-Agent: curl/8.5.0\r\nAccept: */*\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
    let mut head = RequestHead::default();
    assert_eq!(head.read(text.as_bytes(), LIMITS, &CanonicalScope::default(), Scheme::Http), Ok(Some(text.len())));
    assert_eq!(head.query(), Some(b"page=2".as_slice()));
    assert_eq!(head.headers().values(b"x-hop").count(), 0);
    request_head(text.to_owned())
}

fn response_head() -> Part {
    let text = b"HTTP/1.1 200 OK\r\nserver: nginx\r\ndate: Thu, 26 Nov 2026 10:00:00 GMT\r\n\
                 content-type: text/plain\r\ncontent-length: 13\r\n\r\n";
    let asked = Asked { head: false, connect: false, upgrade: None };
    let mut head = ResponseHead::default();
    assert_eq!(head.read(text, LIMITS, asked), Ok(Some(text.len())));
    assert_eq!((head.status(), head.body_length()), (200, BodyLength::Length(13)));
    part(move || head.read(black_box(text), LIMITS, asked), &Ok(Some(text.len())))
}

fn chunked() -> Part {
    let chunk = [b"400\r\n".as_slice(), &[b'x'; 1_024], b"\r\n"].concat();
    let text = [&chunk.repeat(4)[..], b"0\r\n\r\n"].concat();
    let mut body = BodyReader::new(LIMITS);
    let mut read = move |text: &[u8]| {
        body.begin(BodyLength::Chunked);
        let (mut at, mut data) = (0, 0);
        while let Ok(piece) = body.read(&text[at..]) {
            at += piece.consumed;
            data += piece.data.len();
            if piece.end {
                return (data, at == text.len());
            }
        }
        (data, false)
    };
    part(move || read(black_box(&text)), &(4_096, true))
}

fn path(raw: &'static str, expected: &str) -> Part {
    let mut out = Vec::with_capacity(64);
    assert_eq!(canonical::path(raw.as_bytes(), Options::default(), &mut out), Ok(()));
    assert_eq!(out, expected.as_bytes());
    let run = move || {
        out.clear();
        canonical::path(black_box(raw.as_bytes()), Options::default(), &mut out)
    };
    part(run, &Ok(()))
}

fn authority() -> Part {
    let mut out = Vec::with_capacity(64);
    assert_eq!(canonical::authority(b"Orders.Shop.:8080", &mut out), Ok(Some(8080)));
    assert_eq!(out, b"orders.shop");
    let run = move || {
        out.clear();
        canonical::authority(black_box(b"Orders.Shop.:8080"), &mut out)
    };
    part(run, &Ok(Some(8080)))
}

/// A verdict on a request that is read already: half are allowed, half denied.
fn deciding(rules: usize) -> Part {
    let (world, flow) = world(rules);
    let heads: Vec<RequestHead> = (0..64)
        .map(|number| {
            let path =
                format!("/api/v1/items-{}{}", number * rules / 64 / 10 * 10, if number % 2 == 0 { "" } else { "x" });
            let text = format!("GET {path} HTTP/1.1\r\nhost: app\r\n\r\n");
            let mut head = RequestHead::default();
            assert!(matches!(
                head.read(text.as_bytes(), LIMITS, &CanonicalScope::default(), Scheme::Http),
                Ok(Some(_))
            ));
            head
        })
        .collect();
    for (number, head) in heads.iter().enumerate() {
        let expected = if number % 2 == 0 { Action::Allow } else { Action::Deny };
        assert_eq!(world.request_verdict(&flow, &head.facts(0)).action, expected, "{number} of {rules} rules");
    }
    let mut next = 0;
    Box::new(move || {
        next = (next + 1) % heads.len();
        black_box(world.request_verdict(&flow, &heads[next].facts(0)));
    })
}

/// So many rules: a path each, ten sources, of whom the first asks.
fn world(rules: usize) -> (World, Flow) {
    let documents = (0..rules.div_ceil(100)).map(|number| {
        let rule = |number: usize| {
            let source = number % 10;
            format!("  - {{from: [{{serviceAccount: sa-{source}}}], http: [{{methods: [GET], paths: [/api/v1/items-{number}]}}]}}\n")
        };
        let own: String = (number * 100..rules.min(number * 100 + 100)).map(rule).collect();
        format!(
            "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: p{number}, namespace: shop}}\n\
             spec:\n  subject: [{{serviceAccount: app}}]\n  ingress:\n{own}"
        )
    });
    let text = documents.collect::<Vec<_>>().join("---\n");
    let compiled = dialect::compile(&source::parse("micro.yaml", &text.into()));
    assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
    let mut workloads =
        "- {name: app, namespace: shop, serviceAccount: app, ips: [10.0.0.1], ports: [{name: http, port: 80}]}\n"
            .to_owned();
    for source in 0..10 {
        workloads +=
            &format!("- {{name: sa-{source}, namespace: shop, serviceAccount: sa-{source}, ips: [10.0.1.{source}]}}\n");
    }
    let (registry, _) = Registry::parse("workloads.yaml", &workloads.into());
    let world = World::new(compiled.model, Arc::new(registry), 1);
    let flow = world.flow(&Connection {
        source: world.source([10, 0, 1, 0].into()),
        destination: world.source([10, 0, 0, 1].into()),
        port: 80,
        transport: Transport::Tcp,
        service: None,
        fqdn: None,
        direction: Some(Direction::Inbound),
    });
    (world, flow)
}
