use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;

use eastwall_policy::world::World;

use super::*;
use crate::intercept::rules::{Bypass, Family, Ports};
use crate::intercept::{Captured, Inherited, NodeSetup};
use crate::observe::{Destination, Recorder};

const STATUS: &[u8] = b"{\"status\":{}}\n";

fn bounds(line_bytes: usize, milliseconds: u64, connections: usize) -> Bounds {
    Bounds { line_bytes, connection_time: Duration::from_millis(milliseconds), connections }
}

/// What a peer is told that sends this and waits.
fn told(bounds: Bounds, sent: &[u8]) -> String {
    let (mut peer, own) = UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        let _ = serve(&own, bounds, |line| Answer::refused(String::from_utf8_lossy(line), false));
    });
    peer.write_all(sent).unwrap();
    let mut told = String::new();
    peer.read_to_string(&mut told).unwrap();
    thread.join().unwrap();
    told
}

#[test]
fn a_line_has_a_bound_and_so_has_a_connection() {
    let started = Instant::now();
    assert_eq!(
        told(bounds(4, 100, 1), b"abcd\nef\n"),
        "{\"ok\":false,\"error\":\"abcd\"}\n{\"ok\":false,\"error\":\"ef\"}\n"
    );
    assert!(told(bounds(4, 100, 1), b"ef\nabcde\n").ends_with("\"a line has at most 4 bytes\"}\n"));
    assert!(told(bounds(4, 60_000, 1), b"abcde").contains("at most 4 bytes"), "no need to wait for the end of it");
    assert_eq!(told(bounds(4, 100, 1), b"abc"), "", "half a line is nothing");
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn many_small_pieces_do_not_keep_a_seat() {
    let (mut peer, own) = UnixStream::pair().unwrap();
    let started = Instant::now();
    let thread = std::thread::spawn(move || serve(&own, bounds(1000, 200, 1), |_| Answer::done(false)));
    while peer.write_all(b"x").is_ok() && started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(started.elapsed() < Duration::from_secs(10));
    let _ = thread.join().unwrap();
}

fn open(path: &Path, bounds: Bounds) -> Door {
    let (recorder, _writer) = Recorder::start(Destination::Off).unwrap();
    let live = Live::new(Arc::new(World::sealed(1)), true, recorder.metrics().revocation_seconds());
    let (ports, family, bypass) = (Ports::default(), Family::Both, Bypass::default());
    let setup = NodeSetup { node: None, uid: 0, ports, family, bypass };
    let node = Node::new(setup, Inherited::default(), Captured::default());
    Door::open(path, Arc::new(node), Arc::new(live), bounds).unwrap()
}

fn ask(stream: &mut UnixStream, line: &[u8]) -> io::Result<String> {
    stream.write_all(line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer)
}

#[test]
fn who_finds_no_seat_waits_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cni.sock");
    let door = open(&path, bounds(100, 60_000, 2));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut served = [UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap()];
    served.iter_mut().for_each(|stream| assert_eq!(ask(stream, STATUS).unwrap(), "{\"ok\":true}\n"));
    let mut third = UnixStream::connect(&path).unwrap();
    third.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(ask(&mut third, STATUS).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(served);
    third.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = String::new();
    BufReader::new(&third).read_line(&mut answer).unwrap();
    assert_eq!(answer, "{\"ok\":true}\n");

    door.close();
    assert!(UnixStream::connect(&path).is_err() && !path.exists());
}

#[test]
fn pods_that_cannot_be_are_refused_with_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cni.sock");
    let _door = open(&path, Bounds::default());
    let mut stream = UnixStream::connect(&path).unwrap();
    for (line, word) in [
        (r#"{"add":{"namespace":"s","name":"w","netns":"/run/netns/no-such","ips":[]}}"#, "No such file"),
        (r#"{"add":{"namespace":"s","name":"w","netns":"/proc/self/ns/net","ips":[]}}"#, "node proxy itself"),
        (r#"{"check":{"namespace":"s","name":"w","netns":"/run/netns/no-such"}}"#, "no such pod"),
        ("nonsense", "understood"),
    ] {
        let answer = ask(&mut stream, format!("{line}\n").as_bytes()).unwrap();
        assert!(answer.starts_with("{\"ok\":false") && answer.contains(word), "{line}: {answer}");
    }
    let delete = b"{\"delete\":{\"namespace\":\"s\",\"name\":\"w\",\"netns\":\"/run/netns/no-such\"}}\n";
    assert_eq!(ask(&mut stream, delete).unwrap(), "{\"ok\":true}\n", "who is not there need not be taken down");
}

#[test]
fn root_alone_hands_over() {
    for (uid, expected) in [(0, true), (1, false), (1337, false), (u32::MAX, false)] {
        assert_eq!(may_hand_over(uid), expected, "{uid}");
    }
}
