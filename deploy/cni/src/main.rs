//! `eastwall-cni`: the last plugin of a node's CNI chain. It hands each new pod to the node proxy, which closes the pod's
//! network namespace before the pod has sent a packet; without a proxy there is no pod.

mod configuration;
mod environment;
mod failure;
mod folders;
mod list;
mod plugin;
mod proxy;

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use environment::Environment;
use failure::Failure;
use folders::Folders;
use list::Entry;

const HELP: &str = "\
The chained CNI plugin of the Eastwall firewall

A container runtime calls it with CNI_COMMAND set and the network configuration on standard input. Otherwise:

  eastwall-cni install   [--bin-dir DIR] [--conf-dir DIR] [--socket PATH] [--exempt NAMESPACE,...] [--timeout SECONDS]
                         put this program into the folder of plugins and append it to the first network configuration
  eastwall-cni uninstall [--bin-dir DIR] [--conf-dir DIR]
                         take both away again: the configuration is byte for byte what it was
  eastwall-cni --version

Options:
  --bin-dir DIR          folder of plugins [default: /opt/cni/bin]
  --conf-dir DIR         folder of network configurations [default: /etc/cni/net.d]
  --socket PATH          socket of the node proxy, its --cni-socket [default: /run/eastwall/cni.sock]
  --exempt NAMESPACE,..  namespaces whose pods start without a proxy and get no rules
                         [default: kube-system,eastwall-system]
  --timeout SECONDS      how long the proxy may take, 1 to 300 [default: 10]

Examples:
  eastwall-cni install --bin-dir /host/opt/cni/bin --conf-dir /host/etc/cni/net.d
  eastwall-cni install --exempt kube-system,eastwall-system,storage
  eastwall-cni uninstall --bin-dir /host/opt/cni/bin --conf-dir /host/etc/cni/net.d
  CNI_COMMAND=VERSION eastwall-cni </dev/null

Exit codes: 0 done, 1 it could not be done, 2 unusable call. As a plugin: 0, or 1 with the error of the CNI
specification on standard output (11 while the proxy is absent).
";

/// A network configuration is a few kilobytes; the runtime writes it.
const CONFIGURATION_MAX: u64 = 1 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        [] if std::env::var_os("CNI_COMMAND").is_some() => as_plugin(),
        ["--help" | "-h" | "help"] => say(HELP),
        ["--version" | "-V"] => say(&format!("eastwall-cni {}\n", env!("CARGO_PKG_VERSION"))),
        ["install" | "uninstall", "--help" | "-h"] => say(HELP),
        ["install", ref options @ ..] => match Call::of(options, true) {
            Ok(call) => end(call.folders.install(&call.entry)),
            Err(error) => unusable(&error),
        },
        ["uninstall", ref options @ ..] => match Call::of(options, false) {
            Ok(call) => end(call.folders.uninstall()),
            Err(error) => unusable(&error),
        },
        [] => unusable("say what to do: install or uninstall (a container runtime sets CNI_COMMAND)"),
        [word, ..] => unusable(&format!("there is no `{word}`")),
    }
}

fn as_plugin() -> ExitCode {
    let environment = Environment::of(|name| std::env::var(name).ok());
    let mut text = String::new();
    let read = std::io::stdin().take(CONFIGURATION_MAX).read_to_string(&mut text);
    let outcome = match read {
        Ok(_) => plugin::run(&environment, &text),
        Err(error) => Err(Failure::io(format!("cannot read the network configuration: {error}"))),
    };
    match outcome {
        Ok(told) => say(&told),
        Err(failure) => {
            let _ = say(&failure.told(plugin::version_of(&text)));
            ExitCode::FAILURE
        }
    }
}

/// The options of `install` and `uninstall`.
struct Call {
    folders: Folders,
    entry: Entry,
}

impl Call {
    fn of(options: &[&str], installs: bool) -> Result<Self, String> {
        let mut call = Self { folders: Folders::default(), entry: Entry::default() };
        let mut words = options.iter().copied();
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, words.next()),
            };
            let value = value.filter(|value| !value.is_empty()).ok_or_else(|| format!("`{name}` needs a value"))?;
            match name {
                "--bin-dir" => call.folders.programs = PathBuf::from(value),
                "--conf-dir" => call.folders.configurations = PathBuf::from(value),
                "--socket" if installs && value.starts_with('/') => value.clone_into(&mut call.entry.socket),
                "--socket" if installs => return Err(format!("`--socket` is an absolute path, not `{value}`")),
                "--exempt" if installs => {
                    call.entry.exempt_namespaces = value.split(',').map(str::to_owned).collect();
                }
                "--timeout" if installs => {
                    let seconds = value.parse().ok().filter(|seconds| configuration::TIMEOUTS.contains(seconds));
                    call.entry.timeout_seconds = seconds.ok_or("`--timeout` is a number of seconds, 1 to 300")?;
                }
                _ => return Err(format!("there is no `{name}`")),
            }
        }
        Ok(call)
    }
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn end(outcome: Result<String, String>) -> ExitCode {
    match outcome {
        Ok(told) => say(&told),
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn unusable(error: &str) -> ExitCode {
    complain(&format!("{error}\n\nFor more information, try `eastwall-cni --help`."));
    ExitCode::from(2)
}

/// Whether anybody reads it makes no difference.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "eastwall-cni: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_word_of_its_own_or_follows_an_equals_sign() {
        for words in [&["--bin-dir", "/a=b", "--timeout", "7"][..], &["--bin-dir=/a=b", "--timeout=7"]] {
            let call = Call::of(words, true).unwrap();
            assert_eq!((call.folders.programs, call.entry.timeout_seconds), (PathBuf::from("/a=b"), 7));
        }
        for words in [&["--bin-dir"][..], &["--bin-dir="], &["--bin-dir", ""]] {
            assert_eq!(Call::of(words, true).err().unwrap(), "`--bin-dir` needs a value");
        }
    }

    #[test]
    fn the_manifests_call_it_as_it_is() {
        let node = include_str!("../../node/proxy.yaml").lines().map(str::trim);
        let install: Vec<&str> = node
            .skip_while(|line| *line != "- install")
            .skip(1)
            .map_while(|line| line.strip_prefix("- ").filter(|word| word.starts_with("--")))
            .collect();
        let call = Call::of(&install, true).unwrap();
        assert_eq!(call.entry.socket, "/run/eastwall/cni/cni.sock");
        assert!(call.entry.exempt_namespaces.contains(&"eastwall-node".into()));
        let rules = include_str!("../../uninstall/rules.yaml");
        let (_, words) = rules.split_once("[eastwall-cni, uninstall, ").unwrap();
        let uninstall: Vec<&str> = words.split_once(']').unwrap().0.split(", ").collect();
        assert_eq!(Call::of(&uninstall, false).unwrap().folders.programs, PathBuf::from("/host/opt/cni/bin"));
    }
}
