//! What the controller refuses, and within which bounds it answers.

use std::num::NonZeroU32;
use std::time::Duration;

use eastwall_controller::slices::AUDIENCE;
use eastwall_protocol::v1alpha1 as protocol;
use protocol::certificates_client::CertificatesClient;
use protocol::slices_client::SlicesClient;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::site::{Served, Site, pod, until};
use crate::controller::connect::Channel;

type Stream = (tokio::sync::mpsc::Sender<protocol::FollowRequest>, Streaming<protocol::FollowResponse>);

fn hello(serves: protocol::hello::Serves) -> protocol::FollowRequest {
    let hello = protocol::Hello { serves: Some(serves), version: String::new() };
    protocol::FollowRequest { message: Some(protocol::follow_request::Message::Hello(hello)) }
}

fn of_pod(name: &str) -> protocol::hello::Serves {
    protocol::hello::Serves::Pod(protocol::Pod { namespace: "shop".to_owned(), name: name.to_owned() })
}

fn of_node(name: &str) -> protocol::hello::Serves {
    protocol::hello::Serves::Node(name.to_owned())
}

impl Site {
    fn channel(&self, served: &Served, token: &str) -> Channel {
        let following = self.following(served.address);
        // Read with each call.
        std::fs::write(self.folder.path().join(token), token).unwrap();
        let following = crate::controller::settings::Following { token: self.folder.path().join(token), ..following };
        self.runtime.block_on(Channel::connect(&following, &served.address.to_string())).unwrap()
    }

    /// The first answer to a stream that says this.
    fn follow(
        &self,
        channel: &Channel,
        said: protocol::FollowRequest,
    ) -> Result<(Stream, protocol::FollowResponse), Status> {
        self.runtime.block_on(async {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            sender.send(said).await.unwrap();
            let mut client = SlicesClient::with_origin(channel.clone(), Channel::origin());
            let mut stream = client.follow(ReceiverStream::new(receiver)).await?.into_inner();
            let first = stream.message().await?;
            Ok(((sender, stream), first.unwrap()))
        })
    }

    fn follow_code(&self, served: &Served, token: &str, serves: protocol::hello::Serves) -> Code {
        match self.follow(&self.channel(served, token), hello(serves)) {
            Ok(_) => Code::Ok,
            Err(status) => status.code(),
        }
    }

    fn sign(&self, channel: &Channel, namespace: &str, pod: &str) -> Result<protocol::SignResponse, Status> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            vec![SanType::URI("spiffe://cluster.local/ns/kube-system/sa/admin".try_into().unwrap())];
        let request = params.serialize_request(&key).unwrap().der().to_vec();
        let pod = protocol::Pod { namespace: namespace.to_owned(), name: pod.to_owned() };
        self.runtime.block_on(async {
            let mut client = CertificatesClient::with_origin(channel.clone(), Channel::origin());
            Ok(client.sign(protocol::SignRequest { pod: Some(pod), request }).await?.into_inner())
        })
    }
}

#[test]
fn a_proxy_follows_as_who_its_token_says_and_nobody_else() {
    let site = Site::new();
    let served = site.serve();
    site.token("elsewhere", "shop/orders", "orders", "n1", "https://kubernetes.default.svc");
    site.token("moved", "shop/orders", "orders", "n2", AUDIENCE);
    site.token("impostor", "shop/orders", "web", "n1", AUDIENCE);
    for (token, serves, code) in [
        ("orders", of_pod("orders"), Code::Ok),
        ("node", of_node("n1"), Code::Ok),
        ("unknown", of_pod("orders"), Code::Unauthenticated),
        ("elsewhere", of_pod("orders"), Code::Unauthenticated),
        ("impostor", of_pod("orders"), Code::Unauthenticated),
        ("moved", of_pod("orders"), Code::PermissionDenied),
        ("web", of_pod("orders"), Code::PermissionDenied),
        ("web", of_node("n1"), Code::PermissionDenied),
        ("node", of_node("n2"), Code::PermissionDenied),
        ("node", of_pod("orders"), Code::PermissionDenied),
        ("orders", of_node(""), Code::InvalidArgument),
    ] {
        assert_eq!(site.follow_code(&served, token, serves.clone()), code, "{token} {serves:?}");
    }
    let empty = protocol::FollowRequest { message: None };
    let refused = site.follow(&site.channel(&served, "orders"), empty).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[test]
fn a_certificate_is_signed_for_the_pods_that_a_proxy_serves_whatever_the_request_asks() {
    let site = Site::new();
    let served = site.serve();
    let (orders, node) = (site.channel(&served, "orders"), site.channel(&served, "node"));
    for (channel, namespace, pod, code) in [
        (&orders, "shop", "orders", Code::Ok),
        (&orders, "shop", "web", Code::PermissionDenied),
        (&orders, "shop", "none", Code::PermissionDenied),
        (&node, "shop", "orders", Code::Ok),
        (&node, "shop", "web", Code::Ok),
        (&node, "shop", "far", Code::PermissionDenied),
        (&node, "eastwall-system", "eastwall", Code::FailedPrecondition),
        (&site.channel(&served, "unknown"), "shop", "orders", Code::Unauthenticated),
    ] {
        let said = site.sign(channel, namespace, pod);
        assert_eq!(said.as_ref().map_or_else(Status::code, |_| Code::Ok), code, "{namespace}/{pod}");
        if let Ok(signed) = said {
            let text = String::from_utf8_lossy(&signed.chain[0]).into_owned();
            assert!(text.contains(&format!("spiffe://cluster.local/ns/{namespace}/sa/{pod}")), "{text}");
            assert!(!text.contains("admin"));
        }
    }
    let mut ended = serde_json::Value::clone(&pod("shop", "orders", "orders", "n1", "10.0.0.2").value);
    ended["status"]["phase"] = "Succeeded".into();
    let ended = eastwall_controller::Object { value: ended.into(), ..pod("shop", "orders", "", "", "") };
    site.put(ended);
    until("it has ended", || site.sign(&orders, "shop", "orders").is_err());
    assert_eq!(site.sign(&node, "shop", "orders").unwrap_err().code(), Code::FailedPrecondition);
}

#[test]
fn a_stream_ends_with_its_pod_and_with_the_next_stream_of_the_same_proxy() {
    let site = Site::new();
    let served = site.serve();
    let ended = |(_sender, mut stream): Stream| {
        site.runtime.block_on(async {
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Code::Ok,
                    Err(status) => return status.code(),
                }
            }
        })
    };
    let channel = site.channel(&served, "orders");
    let (first, _) = site.follow(&channel, hello(of_pod("orders"))).unwrap();
    let (second, _) = site.follow(&channel, hello(of_pod("orders"))).unwrap();
    assert_eq!(ended(first), Code::Aborted);
    assert_eq!(served.fleet.counts().proxies, 1);
    site.delete(&pod("shop", "orders", "", "", ""));
    assert_eq!(ended(second), Code::PermissionDenied);
    until("nobody follows", || served.fleet.counts().proxies == 0);
}

#[test]
fn the_controller_keeps_to_its_bounds() {
    let mut site = Site::new();
    site.settings.calls = NonZeroU32::new(3).unwrap();
    site.settings.calls_per_second = NonZeroU32::MIN;
    let served = site.serve();
    let codes: Vec<Code> = (0..4).map(|_| site.follow_code(&served, "unknown", of_pod("orders"))).collect();
    assert_eq!(codes[0], Code::Unauthenticated);
    assert_eq!(codes[3], Code::ResourceExhausted);

    let mut site = Site::new();
    site.settings.message_bytes = 1_000;
    site.settings.acknowledge_within = Duration::from_millis(300);
    site.settings.patience = Duration::from_millis(300);
    let served = site.serve();
    let channel = site.channel(&served, "orders");
    let long = protocol::hello::Serves::Node("n".repeat(2_000));
    let refused = site.follow(&channel, hello(long)).unwrap_err();
    assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused:?}");
    // Nothing is acknowledged.
    let ((sender, mut stream), _) = site.follow(&channel, hello(of_pod("orders"))).unwrap();
    let end = site.runtime.block_on(async {
        loop {
            if let Err(end) = stream.message().await {
                return end;
            }
        }
    });
    assert_eq!(end.code(), Code::DeadlineExceeded);
    drop(sender);
    // Nothing is said.
    let refused = site.runtime.block_on(async {
        let (_sender, receiver) = tokio::sync::mpsc::channel(1);
        let mut client = SlicesClient::with_origin(channel.clone(), Channel::origin());
        client.follow(ReceiverStream::new(receiver)).await?.into_inner().message().await
    });
    assert_eq!(refused.unwrap_err().code(), Code::DeadlineExceeded);

    let mut site = Site::new();
    site.settings.connections = 1;
    let served = site.serve();
    let _held = site.channel(&served, "orders");
    let following = site.following(served.address);
    let second = site.runtime.block_on(Channel::connect(&following, &served.address.to_string()));
    assert!(second.is_err());
}

#[test]
fn a_controller_that_has_not_read_the_cluster_tells_nobody_anything() {
    let mut site = Site::new();
    site.store = eastwall_controller::Store::default();
    let served = site.serve();
    assert_eq!(site.follow_code(&served, "orders", of_pod("orders")), Code::Unavailable);
    site.put(pod("shop", "orders", "orders", "n1", "10.0.0.2"));
    site.store.complete();
    until("it is complete", || site.follow_code(&served, "orders", of_pod("orders")) == Code::Ok);
}

#[test]
fn a_proxy_talks_to_its_own_controller_alone() {
    let (site, other) = (Site::new(), Site::new());
    let (served, _others) = (site.serve(), other.serve());
    let connect = |following: crate::controller::settings::Following| {
        site.runtime
            .block_on(Channel::connect(&following, &served.address.to_string()))
            .err()
            .map(|error| error.to_string())
    };
    let good = site.following(served.address);
    assert_eq!(connect(good.clone()), None);
    let elsewhere = other.following(served.address).ca;
    assert!(connect(crate::controller::settings::Following { ca: elsewhere, ..good.clone() }).is_some());
    let renamed = crate::controller::settings::Following { name: "elsewhere.svc".to_owned(), ..good };
    assert!(connect(renamed).is_some());
}
