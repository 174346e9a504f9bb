//! A known allow and a known deny, before a table serves.
//!
//! A policy of our own goes through the same compiler and must give the verdicts that its text says; and the table that
//! is about to serve must say of what its own rules name what the slow reference interpreter says: of what has changed
//! first, and of what is gone.

mod question;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use eastwall_policy::dialect;
use eastwall_policy::facts::{Connection, Direction, Protocol, Request, Transport};
use eastwall_policy::model::{Model, Policy, Rule};
use eastwall_policy::registry::Registry;
use eastwall_policy::source;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::World;
use question::Question;

/// Tests the world that follows one of the policies `before`; the error says what failed.
pub(super) fn run(world: &World, before: &Model) -> Result<(), String> {
    let known = KNOWN.get_or_init(known_verdicts);
    known.clone()?;
    if world.is_closed() {
        return Ok(());
    }
    questions(world, before).iter().try_for_each(|question| question.check(world, world.model()))
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
        let request = Request::bare(Protocol::Http, method.as_bytes(), path.as_bytes(), 0);
        let action = world.request_verdict(&world.flow(&connection), &request).action;
        if action != expected {
            return Err(format!("{method} {path} is {action:?}, the known verdict is {expected:?}"));
        }
    }
    Ok(())
}

/// What to ask: of rules that are new, of rules that are gone (what they allowed is a known denial, where nothing else
/// allows it), and of the new ones in the name of nobody known; others with each generation. Where no rule has changed, all
/// are asked about.
fn questions(world: &World, before: &Model) -> Vec<Question> {
    let (model, registry) = (&**world.model(), world.registry());
    let [mut new, gone] = [changed(model, before), changed(before, model)];
    if new.is_empty() && gone.is_empty() {
        new = model.policies.iter().map(|policy| &**policy).collect();
    }
    // The reference walks every rule for each answer: the more rules, the fewer questions.
    let most = (WALKED / count(model.policies.iter().map(|policy| &**policy)).max(1)).clamp(FEWEST, MOST);
    let first = usize::try_from(world.generation().number).unwrap_or_default();
    let mut asked = Vec::new();
    for nth in 0..MOST {
        let about = |policies: &[&Policy]| {
            let (policy, rule) = one_of(policies, first, nth)?;
            Question::about(policy, rule, registry)
        };
        let named = about(&new);
        let of_nobody = named.as_ref().map(Question::of_nobody);
        asked.extend([named, about(&gone), of_nobody].into_iter().flatten());
        if asked.len() >= most {
            break;
        }
    }
    asked.truncate(most);
    asked
}

/// Policies that are not, the very same, among others.
fn changed<'m>(model: &'m Model, other: &Model) -> Vec<&'m Policy> {
    let known: HashSet<*const Policy> = other.policies.iter().map(Arc::as_ptr).collect();
    let policies = model.policies.iter().filter(|policy| !known.contains(&Arc::as_ptr(policy)));
    policies.map(|policy| &**policy).collect()
}

fn count<'m>(policies: impl Iterator<Item = &'m Policy>) -> usize {
    policies.map(|policy| policy.rules.len()).sum()
}

/// One of all their rules, another with each `first`, those of one `first` far from each other.
fn one_of<'m>(policies: &[&'m Policy], first: usize, nth: usize) -> Option<(&'m Policy, &'m Rule)> {
    let count = count(policies.iter().copied());
    let mut left = (first + nth * count.div_ceil(MOST)).checked_rem(count)?;
    for policy in policies {
        match policy.rules.get(left) {
            Some(rule) => return Some((policy, rule)),
            None => left -= policy.rules.len(),
        }
    }
    None
}

/// Rules that are walked for all answers: some milliseconds.
const WALKED: usize = 20_000;
/// Questions: where rules are many, and where they are few.
const FEWEST: usize = 2;
const MOST: usize = 64;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn model(paths: &[&str]) -> Arc<Model> {
        let document = |(number, path): (usize, &&str)| {
            let named = POLICY.replace("name: self-test,", &format!("name: p{number},"));
            named.replace("/known/allow", &format!("\"{path}\""))
        };
        let text = paths.iter().enumerate().map(document).collect::<Vec<_>>().join("---\n");
        let compiled = dialect::compile(&source::parse("p.yaml", &text.into()));
        assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
        compiled.model
    }

    fn world(model: &Arc<Model>) -> World {
        World::new(Arc::clone(model), Arc::new(Registry::parse("w", &WORKLOADS.into()).0), 1)
    }

    #[test]
    fn a_workload_that_takes_proven_peers_alone_is_no_failure() {
        let model = model(&["/a"]);
        let strict = WORKLOADS.replace(
            "serviceAccount: server,",
            "serviceAccount: server, annotations: {eastwall.dev/inbound-mtls: strict},",
        );
        let world = World::new(Arc::clone(&model), Arc::new(Registry::parse("w", &strict.into()).0), 1);
        assert_eq!(run(&world, &Model::default()), Ok(()));
    }

    #[test]
    fn what_has_changed_and_what_is_gone_is_asked_about_first() {
        let before = model(&["/a", "/b/{id}", "/c/**"]);
        let mut policies = before.policies.clone();
        policies[1] = Arc::clone(&model(&["/a", "/new/{id}"]).policies[1]);
        let after = Arc::new(Model { policies, ..Model::default() });
        let stale = world(&before);
        assert_eq!(run(&stale, &Model::default()), Ok(()));
        let fresh = world(&after);
        assert_eq!(run(&fresh, &before), Ok(()));
        // A table that lacks what is new, or has what is gone, is found out, by whatever number of questions.
        let asked = questions(&fresh, &before);
        let found = |question: &&Question| question.check(&stale, &after).is_err();
        assert_eq!(asked.iter().take(FEWEST).filter(found).count(), FEWEST, "{asked:?}");
        assert_eq!(asked.iter().filter(|question| question.check(&stale, &before).is_err()).count(), 0);
        let refuses_all = World::closed(Arc::clone(fresh.registry()), 1);
        assert!(questions(&fresh, &after).iter().take(FEWEST).any(|one| one.check(&refuses_all, &after).is_err()));
        let allows_all = world(&Arc::default());
        assert!(questions(&fresh, &after).iter().take(FEWEST).any(|one| one.check(&allows_all, &after).is_err()));
    }
}
