//! One question to the node proxy, answered within a time.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

/// Why there is no good answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nobody answers, or not now: the same may be well in a moment.
    Absent(String),
    /// It says no.
    Refused(String),
}

#[derive(Debug, Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    retry: bool,
}

/// Asks and waits, for connecting, asking and being answered together.
pub(crate) fn ask(socket: &Path, timeout: Duration, request: &Value) -> Result<(), Trouble> {
    let (told, outcome) = mpsc::channel();
    let (path, line) = (socket.to_owned(), format!("{request}\n"));
    // A connect to a full queue has no timeout of its own; the thread ends with the process.
    std::thread::spawn(move || told.send(exchange(&path, &line)));
    let absent = |why: String| Trouble::Absent(format!("{}: {why}", socket.display()));
    let answer = match outcome.recv_timeout(timeout) {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(absent(error.to_string())),
        Err(_) => return Err(absent(format!("no answer within {} s", timeout.as_secs()))),
    };
    match serde_json::from_str::<Answer>(&answer) {
        Ok(Answer { ok: true, .. }) => Ok(()),
        Ok(Answer { retry: true, error, .. }) => Err(Trouble::Absent(error)),
        Ok(Answer { error, .. }) => Err(Trouble::Refused(error)),
        // It ended before it could answer.
        Err(_) if answer.is_empty() => Err(absent("no answer".into())),
        Err(error) => Err(Trouble::Refused(format!("its answer cannot be read: {error}"))),
    }
}

fn exchange(socket: &Path, line: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut answer)?;
    Ok(answer)
}

/// An answer is one line with the words of an error.
const ANSWER_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use serde_json::json;

    use super::*;

    /// What becomes of a question that is answered so.
    fn answered(answer: &'static str) -> Result<(), Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cni.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            line
        });
        let outcome = ask(&path, Duration::from_secs(20), &json!({"status": {}}));
        assert_eq!(server.join().unwrap(), "{\"status\":{}}\n");
        outcome
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(answered("{\"ok\":true,\"exempt\":true}\n"), Ok(()));
        assert_eq!(answered("{\"ok\":false,\"error\":\"taken\"}\n"), Err(Trouble::Refused("taken".into())));
        assert_eq!(answered("{\"ok\":false,\"error\":\"e\",\"retry\":true}\n"), Err(Trouble::Absent("e".into())));
        assert!(matches!(answered(""), Err(Trouble::Absent(_))));
        assert!(matches!(answered("yes\n"), Err(Trouble::Refused(_))));
    }

    #[test]
    fn nobody_there_and_nobody_who_answers_are_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cni.sock");
        let status = json!({"status": {}});
        assert!(matches!(ask(&path, Duration::from_secs(20), &status), Err(Trouble::Absent(_))));
        let _silent = UnixListener::bind(&path).unwrap();
        let outcome = ask(&path, Duration::from_millis(50), &status);
        assert!(matches!(&outcome, Err(Trouble::Absent(why)) if why.contains("no answer within")), "{outcome:?}");
    }
}
