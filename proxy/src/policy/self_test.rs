//! A known allow and a known deny, before a table serves.
//!
//! A policy of our own goes through the same compiler and must give the verdicts that its text says; and the table that
//! is about to serve must say of its own workloads what the slow reference interpreter says.

use std::sync::{Arc, OnceLock};

use eastwall_policy::dialect;
use eastwall_policy::facts::{Connection, Direction, End, Fact, Headers, Place, Protocol, Request, Transport};
use eastwall_policy::model::interpret;
use eastwall_policy::registry::{Registry, WorkloadId};
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;

/// Tests the world; the error says what failed.
pub(super) fn run(world: &World) -> Result<(), String> {
    let known = KNOWN.get_or_init(known_verdicts);
    known.clone()?;
    agrees_with_reference(world)
}

/// The compiler and the table of this process do not change: once is enough.
static KNOWN: OnceLock<Result<(), String>> = OnceLock::new();

fn known_verdicts() -> Result<(), String> {
    let compiled = dialect::compile(&source::parse("self-test", &POLICY.into()));
    if let Some(error) = compiled.diagnostics.iter().find(|one| one.is_error()) {
        return Err(format!("the self-test's own policy is refused: {}", error.message));
    }
    let (registry, _) = Registry::parse("self-test", &WORKLOADS.into());
    let world = World::new(compiled.model, Arc::new(registry), 1);
    for (source, method, path, expected) in [
        ([192, 0, 2, 1], "GET", "/known/allow", Action::Allow),
        ([192, 0, 2, 1], "POST", "/known/allow", Action::Deny),
        ([192, 0, 2, 1], "GET", "/known/deny", Action::Deny),
        ([192, 0, 2, 3], "GET", "/known/allow", Action::Deny),
    ] {
        let connection = Connection {
            source: world.source(source.into()),
            destination: world.destination([192, 0, 2, 2].into()),
            port: 80,
            transport: Transport::Tcp,
            service: None,
            fqdn: None,
            direction: Some(Direction::Inbound),
        };
        let request = Request {
            method: Fact::Known(method.as_bytes()),
            path: Fact::Known(path.as_bytes()),
            query: Fact::Absent,
            host: Fact::Absent,
            headers: Fact::Known(Headers::default()),
            upgrade: Fact::Absent,
            jwt: Fact::Absent,
            mesh_jwt: Fact::Absent,
            ..Request::opaque(Fact::Known(Protocol::Http), 0)
        };
        let action = world.request_verdict(&world.flow(&connection), &request).action;
        if action != expected {
            return Err(format!("{method} {path} is {action:?}, the known verdict is {expected:?}"));
        }
    }
    Ok(())
}

/// Asks the table about some of its workloads, others with each generation, from a registered neighbour and from nobody
/// known. The reference walks every rule for each answer: the more rules, the fewer questions.
fn agrees_with_reference(world: &World) -> Result<(), String> {
    if world.is_closed() {
        return Ok(());
    }
    let registry = world.registry();
    let count = registry.workloads.len();
    let at = |index: usize| {
        let id = WorkloadId(u32::try_from(index).unwrap_or(u32::MAX));
        let address = registry.workload(id).and_then(|workload| workload.ips.first()).copied();
        End { address, place: Place::Workload(id), principal: None }
    };
    let nobody = End { address: None, place: Place::Unknown, principal: None };
    let rules: usize = world.model().policies.iter().map(|policy| policy.rules.len()).sum();
    let sample = (RULES / rules.max(1)).clamp(1, SAMPLE).min(count);
    let first = usize::try_from(world.generation().number).unwrap_or_default();
    for nth in 0..sample {
        let index = (first + nth * (count / sample)) % count;
        let port =
            registry.workloads.get(index).and_then(|workload| workload.ports.first()).map_or(80, |port| port.port);
        for source in [at((index + 1) % count), nobody] {
            let connection = Connection {
                source,
                destination: at(index),
                port,
                transport: Transport::Tcp,
                service: None,
                fqdn: None,
                direction: Some(Direction::Inbound),
            };
            let protocol = if nth % 2 == 0 { Protocol::Http } else { Protocol::Tcp };
            let request = Request::opaque(Fact::Known(protocol), 0);
            let table = world.request_verdict(&world.flow(&connection), &request).action;
            let reference = interpret::request_verdict(world.model(), registry, &connection, &request).action;
            if table != reference {
                return Err(format!("the table says {table:?}, the reference {reference:?}: {connection:?}"));
            }
        }
    }
    Ok(())
}

/// Workloads asked about where rules are few.
const SAMPLE: usize = 32;

/// Rules that are walked for all answers from one end of a connection: some milliseconds.
const RULES: usize = 10_000;

const POLICY: &str = "\
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: self-test, namespace: self-test}
spec:
  subject: [{serviceAccount: server}]
  ingress:
  - {name: known, from: [{serviceAccount: client}], ports: [80], http: [{methods: [GET], paths: [/known/allow]}]}
";

const WORKLOADS: &str = "\
- {name: client, namespace: self-test, serviceAccount: client, ips: [192.0.2.1]}
- {name: server, namespace: self-test, serviceAccount: server, ips: [192.0.2.2], ports: [{name: http, port: 80}]}
- {name: stranger, namespace: self-test, serviceAccount: stranger, ips: [192.0.2.3]}
";
