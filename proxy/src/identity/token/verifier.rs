//! What the data path asks: the claims of a request's token, as far as rules may know them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use eastwall_policy::canonical::{self, Token};
use eastwall_policy::facts::{Fact, Request};
use eastwall_policy::model::{JwtRule, TokenPlace};
use eastwall_policy::verdict::Verdict;
use eastwall_policy::world::{Flow, ScopedJwtRule, World};
use prometheus::IntCounter;

use super::cache::Cache;
use super::verify::Unverified;
use super::{Accepts, Algorithms, Finding, Keys};
use crate::observe::Recorder;

/// Verifies tokens for one worker, each once.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Arc<Keys>,
    accepts: Arc<[Accepts]>,
    leeway: i64,
    cache: RefCell<Cache>,
    /// When accepted tokens end, in steps of [`STEP`] seconds.
    ends: RefCell<BTreeSet<i64>>,
    /// How often sets of keys had been replaced when live connections were last judged again.
    replaced: Cell<u64>,
    /// By the number of the finding.
    counters: Vec<IntCounter>,
}

impl Verifier {
    /// Has verified nothing yet.
    pub(crate) fn new(keys: &Arc<Keys>, accepts: &Arc<[Accepts]>, recorder: &Recorder) -> Self {
        let limits = &keys.limits;
        Self {
            accepts: Arc::clone(accepts),
            leeway: i64::try_from(limits.leeway.as_secs()).unwrap_or(i64::MAX),
            ends: RefCell::default(),
            replaced: Cell::new(keys.replaced()),
            cache: RefCell::new(Cache::new(limits.cached_tokens, limits.cached_token_bytes)),
            counters: Finding::ALL.map(|finding| recorder.metrics().tokens(finding.label())).into(),
            keys: Arc::clone(keys),
        }
    }

    /// The verdict on a request, by what its token says: the one place where tokens meet rules.
    ///
    /// Native rules: a token that is not accepted for whatever reason is *unknown*, not absent. The server behind the
    /// proxy may take it all the same, so it must not slip past a Deny, and is never enough for an Allow.
    ///
    /// Istio: a token that is not accepted is refused before any rule is asked; where no `RequestAuthentication` selects
    /// the destination no token is looked at, and nobody has a principal. An emergency lifts that, but not what forges a
    /// header of Istio's proxy: the workload would believe it.
    pub(crate) fn verdict(&self, world: &World, flow: &Flow, request: &Request<'_>) -> Verdict {
        let scope = world.canonical_scope(flow);
        let (mut own, mut mesh) = (Fact::Unknown, Fact::Absent);
        // PERF: where no rule asks, nothing is looked for.
        if scope.asks_claims {
            own = self.claims(request, || self.accepts.iter().map(|one| (&one.rule, one.algorithms)));
        }
        if let Some(ScopedJwtRule { policy, .. }) = scope.jwt_rules.first() {
            let rules = || scope.jwt_rules.iter().map(|scoped| (&*scoped.rule, Algorithms::ALL));
            if scope.jwt_rules.iter().any(|scoped| is_told(request, &scoped.rule)) {
                self.count(Finding::Forged);
                return Verdict::unauthenticated(*policy, world.proof(flow));
            }
            mesh = self.claims(request, rules);
            if matches!(mesh, Fact::Unknown) {
                return world.unauthenticated(flow, *policy, request.now);
            }
        }
        let request = Request { jwt: claims_of(&own), mesh_jwt: claims_of(&mesh), ..*request };
        world.request_verdict(flow, &request)
    }

    fn claims<'r, I>(&self, request: &Request<'_>, rules: impl Fn() -> I) -> Fact<Rc<Unverified>>
    where
        I: Iterator<Item = (&'r JwtRule, Algorithms)>,
    {
        let mut found = Token::Absent;
        let mut none = true;
        for (rule, _) in rules() {
            none = false;
            found = found.and(canonical::token(request, &rule.places));
        }
        if none {
            // Nobody is accepted, but a token that is there may say anything to the server.
            found = canonical::token(request, &[TokenPlace::Bearer]);
        }
        let token = match found {
            Token::Absent => return Fact::Absent,
            Token::One(token) => token,
            Token::Unreadable => {
                self.count(Finding::Unreadable);
                return Fact::Unknown;
            }
        };
        let is_at = |rule: &JwtRule| !matches!(canonical::token(request, &rule.places), Token::Absent);
        let accepted = match std::str::from_utf8(&token) {
            Ok(token) => self.accept(token, request.now, rules().filter(|(rule, _)| is_at(rule))),
            Err(_) => Err(Finding::Unreadable),
        };
        match accepted {
            Ok(token) => {
                self.count(Finding::Accepted);
                self.note_end(&token, request.now);
                Fact::Known(token)
            }
            Err(finding) => {
                self.count(finding);
                tracing::debug!(finding = finding.label(), "a token is not accepted");
                Fact::Unknown
            }
        }
    }

    /// The finding of the rule that came furthest, where none accepts it.
    fn accept<'r>(
        &self,
        token: &str,
        now: i64,
        rules: impl Iterator<Item = (&'r JwtRule, Algorithms)>,
    ) -> Result<Rc<Unverified>, Finding> {
        if token.len() > self.keys.limits.token_bytes {
            return Err(Finding::TooLong);
        }
        let known = self.cache.borrow().read(token);
        let read = match known {
            Some(read) => read,
            None => Rc::new(Unverified::read(token)?),
        };
        let mut finding = Finding::Issuer;
        for (rule, algorithms) in rules {
            if rule.issuer.as_deref().is_some_and(|issuer| read.text("iss") != Some(issuer)) {
                continue;
            }
            match self.accept_by(token, &read, now, rule, algorithms) {
                Ok(()) => return Ok(read),
                Err(Finding::Expired) => {
                    finding = Finding::Expired;
                    self.cache.borrow_mut().ended(token);
                }
                Err(other) => finding = other,
            }
        }
        Err(finding)
    }

    fn accept_by(
        &self,
        token: &str,
        read: &Rc<Unverified>,
        now: i64,
        rule: &JwtRule,
        algorithms: Algorithms,
    ) -> Result<(), Finding> {
        if !algorithms.contains(read.algorithm) {
            return Err(Finding::Algorithm);
        }
        // What is cheap comes first.
        if !rule.audiences.is_empty() && !rule.audiences.iter().any(|audience| read.is_for(audience)) {
            return Err(Finding::Audience);
        }
        read.in_time(now, self.leeway)?;
        let keys = self.keys.find(&rule.keys).ok_or(Finding::NoKeys)?;
        if self.cache.borrow().is_verified(token, &keys) {
            return Ok(());
        }
        read.verify(token, &keys).inspect_err(|finding| {
            if *finding == Finding::UnknownKey {
                self.keys.look_again(&rule.keys);
            }
        })?;
        self.cache.borrow_mut().verified(token, read, &keys);
        Ok(())
    }

    /// Whether a token has ended, or keys have changed, since this was asked last: what is open by it may not stay open.
    pub(crate) fn have_changed(&self, now: i64) -> bool {
        let replaced = self.keys.replaced();
        let mut ends = self.ends.borrow_mut();
        let later = ends.split_off(&(now + 1));
        let ended = !std::mem::replace(&mut *ends, later).is_empty();
        self.replaced.replace(replaced) != replaced || ended
    }

    /// What ends late is looked at again on the way, so that few ends have to be remembered.
    fn note_end(&self, token: &Unverified, now: i64) {
        let end = token.ends().unwrap_or(now).saturating_add(self.leeway).min(now.saturating_add(DAY));
        self.ends.borrow_mut().insert(end.saturating_add(STEP - 1).div_euclid(STEP).saturating_mul(STEP));
    }

    fn count(&self, finding: Finding) {
        if let Some(counter) = self.counters.get(finding as usize) {
            counter.inc();
        }
    }
}

/// A stream may outlive its token by so many seconds.
const STEP: i64 = 5;

const DAY: i64 = 86_400;

/// SPEC: Envoy takes such headers out before it writes them. Here nobody writes them, so that whoever sends one would be
/// believed: it is refused.
fn is_told(request: &Request<'_>, rule: &JwtRule) -> bool {
    let Fact::Known(headers) = request.headers else { return false };
    rule.told_in.iter().any(|name| headers.values(name.as_bytes()).next().is_some())
}

fn claims_of(token: &Fact<Rc<Unverified>>) -> Fact<&serde_json::Value> {
    match token {
        Fact::Known(token) => Fact::Known(&token.claims),
        Fact::Absent => Fact::Absent,
        Fact::Unknown => Fact::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use eastwall_policy::dialect;
    use eastwall_policy::facts::{Connection, Direction, Field, Headers, Protocol, Transport};
    use eastwall_policy::model::KeysFrom;
    use eastwall_policy::registry::Registry;
    use eastwall_policy::source;
    use eastwall_policy::verdict::{Action, Reason};
    use serde_json::{Value, json};

    use super::super::TokenLimits;
    use super::super::keys::Source;
    use super::super::verify::tests::Signer;
    use super::*;
    use crate::observe::Destination;

    const NOW: i64 = 1_000;

    fn world(policies: &str) -> World {
        let workloads = "- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2], ports: [{name: http, port: 80}]}\n\
                         - {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}\n";
        let compiled = dialect::compile(&source::parse("test", &policies.into()));
        assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
        World::new(compiled.model, Arc::new(Registry::parse("test", &workloads.into()).0), 1)
    }

    /// One worker, and what it is asked.
    struct Bench {
        world: World,
        verifier: Verifier,
        recorder: Recorder,
    }

    impl Bench {
        fn new(policies: &str, accepts: Vec<Accepts>, limits: TokenLimits) -> Self {
            let (recorder, _) = Recorder::start(Destination::Off).unwrap();
            let verifier = Verifier::new(&Keys::new(limits), &accepts.into(), &recorder);
            Self { world: world(policies), verifier, recorder }
        }

        fn put(&self, from: &KeysFrom, signers: &[&Signer]) {
            let text = json!({"keys": signers.iter().map(|one| one.jwk()).collect::<Vec<_>>()}).to_string();
            let set = Some(Arc::new(self.verifier.keys.read(text.as_bytes()).unwrap()));
            self.verifier.keys.change(|sources| {
                sources.insert(from.clone(), Source { set: set.clone(), again: Arc::default() });
            });
        }

        fn ask(&self, lines: &[(&str, &str)], now: i64) -> Verdict {
            let (mut bytes, mut fields) = (Vec::new(), Vec::new());
            let mut put = |part: &str| {
                let from = u32::try_from(bytes.len()).unwrap();
                bytes.extend_from_slice(part.as_bytes());
                (from, u32::try_from(bytes.len()).unwrap())
            };
            for (name, value) in lines {
                fields.push(Field { name: put(name), value: put(value) });
            }
            let flow = self.world.flow(&Connection {
                source: self.world.source([10, 0, 0, 3].into()),
                destination: self.world.destination([10, 0, 0, 2].into()),
                port: 80,
                transport: Transport::Tcp,
                service: None,
                fqdn: None,
                direction: Some(Direction::Inbound),
            });
            let request = Request {
                method: Fact::Known(b"GET"),
                path: Fact::Known(b"/"),
                query: Fact::Absent,
                host: Fact::Known(b"orders"),
                headers: Fact::Known(Headers { bytes: &bytes, fields: &fields }),
                upgrade: Fact::Absent,
                ..Request::opaque(Fact::Known(Protocol::Http), now)
            };
            self.verifier.verdict(&self.world, &flow, &request)
        }

        fn bearer(&self, token: &str) -> Action {
            self.ask(&[("authorization", &format!("Bearer {token}"))], NOW).action
        }

        fn count(&self, finding: Finding) -> u64 {
            self.recorder.metrics().tokens(finding.label()).get()
        }
    }

    fn native(rules: &str) -> String {
        format!(
            "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: orders, namespace: shop}}\n\
             spec: {{subject: [{{serviceAccount: orders}}], ingress: [{rules}]}}\n"
        )
    }

    fn allows(jwt: &str) -> String {
        native(&format!("{{name: a, from: [{{serviceAccount: web}}], http: [{{jwt: {jwt}}}]}}"))
    }

    fn denies(jwt: &str) -> String {
        native(&format!(
            "{{name: a, from: [{{serviceAccount: web}}], http: [{{}}]}}, \
             {{name: d, action: Deny, from: [{{any: true}}], ports: [http], http: [{{jwt: {jwt}}}]}}"
        ))
    }

    fn accepts(text: &str) -> Accepts {
        serde_saphyr::from_str(text).unwrap()
    }

    fn file(name: &str) -> KeysFrom {
        KeysFrom::File(Arc::from(std::path::Path::new(name)))
    }

    fn claims(more: &Value) -> Value {
        let mut claims =
            json!({"iss": "https://sso", "aud": "orders", "sub": "kim", "exp": NOW + 10, "role": "refund"});
        claims.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        claims
    }

    const SSO: &str = "{issuer: \"https://sso\", audiences: [orders], jwks: sso, algorithms: [EdDSA, ES256]}";
    const REFUND: &str = "{issuer: \"https://sso\", claims: [{path: [role], values: [refund]}]}";

    fn limits() -> TokenLimits {
        TokenLimits { leeway: std::time::Duration::ZERO, ..TokenLimits::default() }
    }

    /// Every way in which a token is not accepted, each with what is found.
    fn refused(signer: &Signer, stranger: &Signer) -> Vec<(String, Finding)> {
        let rsa = Signer::rsa("a", jsonwebtoken::Algorithm::RS256);
        vec![
            ("a.b.c".into(), Finding::Malformed),
            ("opaque".into(), Finding::Unreadable),
            (format!("{}=", signer.sign(&claims(&json!({})))), Finding::Unreadable),
            (signer.sign(&claims(&json!({"pad": "x".repeat(9_000)}))), Finding::TooLong),
            (stranger.sign(&claims(&json!({}))), Finding::Signature),
            (Signer::ed25519("b").sign(&claims(&json!({}))), Finding::UnknownKey),
            (rsa.sign(&claims(&json!({}))), Finding::Algorithm),
            (signer.sign(&claims(&json!({"iss": "https://sso/"}))), Finding::Issuer),
            (signer.sign(&claims(&json!({"iss": 1}))), Finding::Issuer),
            (signer.sign(&claims(&json!({"aud": "stock"}))), Finding::Audience),
            (signer.sign(&claims(&json!({"exp": NOW}))), Finding::Expired),
            (signer.sign(&claims(&json!({"nbf": NOW + 1}))), Finding::NotYetValid),
        ]
    }

    #[test]
    fn a_native_allow_needs_an_accepted_token_and_a_deny_is_not_slipped_past() {
        let (signer, stranger) = (Signer::ed25519("a"), Signer::ed25519("a"));
        let allow = Bench::new(&allows(REFUND), vec![accepts(SSO)], limits());
        let deny = Bench::new(&denies(REFUND), vec![accepts(SSO)], limits());
        let good = signer.sign(&claims(&json!({})));
        assert_eq!((allow.bearer(&good), allow.count(Finding::NoKeys)), (Action::Deny, 1), "no key is known");
        assert_eq!(deny.bearer(&good), Action::Deny, "so it may be one that is denied");
        for bench in [&allow, &deny] {
            bench.put(&file("sso"), &[&signer]);
        }
        assert_eq!((allow.bearer(&good), allow.count(Finding::Accepted)), (Action::Allow, 1));
        assert_eq!(deny.bearer(&good), Action::Deny);
        let other = signer.sign(&claims(&json!({"role": "read"})));
        assert_eq!((allow.bearer(&other), deny.bearer(&other)), (Action::Deny, Action::Allow));
        for (token, finding) in refused(&signer, &stranger) {
            let before = allow.count(finding);
            assert_eq!(allow.bearer(&token), Action::Deny, "{finding:?}");
            assert_eq!(allow.count(finding), before + 1, "{finding:?}");
            assert_eq!(deny.bearer(&token), Action::Deny, "{finding:?}: the server may believe it");
        }
        for none in [&[][..], &[("authorization", "Basic eDp5")]] {
            assert_eq!(allow.ask(none, NOW).action, Action::Deny);
            assert_eq!(deny.ask(none, NOW).action, Action::Allow, "known to have no token");
        }
        let line = format!("Bearer {good}");
        for several in [
            &[("authorization", &*line), ("authorization", &*line)][..],
            &[("authorization", "Basic eDp5"), ("authorization", &line)],
        ] {
            assert_eq!(allow.ask(several, NOW).action, Action::Deny, "which one counts is not known");
            assert_eq!(deny.ask(several, NOW).action, Action::Deny);
        }
    }

    #[test]
    fn a_claim_that_must_not_be_there_is_not_missing_in_a_token_that_is_not_accepted() {
        let jwt = "{issuer: \"https://sso\", claims: [{path: [contractor], operator: DoesNotExist}]}";
        let signer = Signer::ed25519("a");
        let bench = Bench::new(&allows(jwt), vec![accepts(SSO)], limits());
        bench.put(&file("sso"), &[&signer]);
        assert_eq!(bench.bearer(&signer.sign(&claims(&json!({})))), Action::Allow);
        assert_eq!(bench.bearer(&signer.sign(&claims(&json!({"exp": NOW})))), Action::Deny);
        let without = native(
            "{name: a, from: [{serviceAccount: web}], http: [{jwt: {claims: [{path: [contractor], operator: DoesNotExist}]}}]}",
        );
        let bench = Bench::new(&without, Vec::new(), limits());
        assert_eq!(bench.ask(&[], NOW).action, Action::Allow, "nobody has that claim who has no token");
        assert_eq!(bench.bearer("a.b.c"), Action::Deny, "nobody is accepted, so what it says is not known");
    }

    #[test]
    fn a_token_is_verified_once_until_it_ends_or_its_keys_change() {
        let signer = Signer::ed25519("a");
        let bench = Bench::new(&allows(REFUND), vec![accepts(SSO)], limits());
        bench.put(&file("sso"), &[&signer]);
        let token = signer.sign(&claims(&json!({})));
        let line = format!("Bearer {token}");
        let ask = |now| bench.ask(&[("authorization", &*line)], now).action;
        let keys = || bench.verifier.keys.find(&file("sso")).unwrap();
        let is_known = || bench.verifier.cache.borrow().is_verified(&token, &keys());
        assert!(!is_known());
        assert_eq!((ask(NOW), is_known()), (Action::Allow, true));
        assert_eq!((ask(NOW + 9), is_known()), (Action::Allow, true));
        bench.put(&file("sso"), &[&signer]);
        assert!(!is_known(), "another set, of the same keys");
        assert_eq!((ask(NOW), is_known()), (Action::Allow, true));
        bench.put(&file("sso"), &[&Signer::ed25519("a")]);
        assert_eq!((ask(NOW), is_known()), (Action::Deny, false), "its key is gone");
        bench.put(&file("sso"), &[&signer]);
        assert_eq!((ask(NOW), is_known()), (Action::Allow, true));
        assert_eq!((ask(NOW + 10), is_known()), (Action::Deny, false), "it has ended");
        assert!(bench.verifier.cache.borrow().read(&token).is_none());
    }

    #[test]
    fn what_is_open_is_judged_again_when_a_token_ends_or_keys_change() {
        let signer = Signer::ed25519("a");
        let bench = Bench::new(&allows(REFUND), vec![accepts(SSO)], limits());
        bench.put(&file("sso"), &[&signer]);
        let changed = |now| bench.verifier.have_changed(now);
        assert!(!changed(NOW), "nothing is open by a token");
        for (end, steps) in
            [(NOW + 10, [(9, false), (10, true), (11, false)]), (NOW + 11, [(11, false), (14, false), (15, true)])]
        {
            for _ in 0..3 {
                assert_eq!(bench.bearer(&signer.sign(&claims(&json!({"exp": end})))), Action::Allow);
            }
            for (after, expected) in steps {
                assert_eq!(changed(NOW + after), expected, "{end} {after}");
            }
        }
        let read = |end| Unverified::read(&signer.sign(&json!({"exp": end}))).unwrap();
        for end in (0..1_000).map(|number| NOW + number * 997) {
            bench.verifier.note_end(&read(end), NOW);
        }
        assert_eq!(bench.verifier.ends.borrow().last(), Some(&(NOW + DAY)), "a day ahead at most");
        assert!(changed(NOW + DAY));
        let text = json!({"keys": [Signer::ed25519("a").jwk()]}).to_string();
        bench.verifier.keys.replace(&file("sso"), &Arc::new(bench.verifier.keys.read(text.as_bytes()).unwrap()));
        assert!(changed(NOW));
        assert!(!changed(NOW));
    }

    #[test]
    fn a_key_that_is_not_known_is_looked_for_and_the_request_does_not_wait() {
        let signer = Signer::ed25519("a");
        let bench = Bench::new(&allows(REFUND), vec![accepts(SSO)], limits());
        bench.put(&file("sso"), &[&signer]);
        let again = bench.verifier.keys.notifier(&file("sso")).unwrap();
        let asked = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let wait = async { tokio::time::timeout(std::time::Duration::ZERO, again.notified()).await };
            runtime.block_on(wait).is_ok()
        };
        bench.bearer(&Signer::ed25519("a").sign(&claims(&json!({}))));
        assert!(!asked(), "a wrong signature is no new key");
        bench.bearer(&Signer::ed25519("new").sign(&claims(&json!({"exp": NOW}))));
        assert!(!asked(), "nor is a token that would not be accepted anyway");
        for _ in 0..3 {
            assert_eq!(bench.bearer(&Signer::ed25519("new").sign(&claims(&json!({})))), Action::Deny);
        }
        assert!(asked());
        assert!(!asked(), "asking often is asking once");
    }

    fn request_authentication(name: &str, more: &str, signer: &Signer) -> String {
        let jwks = json!({"keys": [signer.jwk()]}).to_string();
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{jwtRules: [{{issuer: \"https://sso\", jwks: '{jwks}'{more}}}]}}\n"
        )
    }

    const PRINCIPAL: &str = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: shop}\n\
         spec: {rules: [{from: [{source: {requestPrincipals: [\"https://sso/kim\"]}}]}]}\n";

    #[test]
    fn istio_refuses_a_token_that_is_not_accepted_and_passes_one_that_is_not_there_to_the_rules() {
        let (signer, stranger) = (Signer::ed25519("a"), Signer::ed25519("a"));
        let accepting = request_authentication("r", ", audiences: [orders]", &signer);
        let alone = Bench::new(&accepting, Vec::new(), limits());
        let asked = Bench::new(&format!("{accepting}{PRINCIPAL}"), Vec::new(), limits());
        let good = signer.sign(&claims(&json!({})));
        assert_eq!((alone.bearer(&good), asked.bearer(&good)), (Action::Allow, Action::Allow));
        let nobody = |bench: &Bench| bench.ask(&[], NOW).action;
        assert_eq!((nobody(&alone), nobody(&asked)), (Action::Allow, Action::Deny));
        assert_eq!(asked.ask(&[], NOW).reason, Reason::NoRule);
        for (token, finding) in refused(&signer, &stranger) {
            // Any asymmetric algorithm does, but the key is of another kind.
            let finding = if finding == Finding::Algorithm { Finding::UnknownKey } else { finding };
            let before = alone.count(finding);
            let verdict = alone.ask(&[("authorization", &format!("Bearer {token}"))], NOW);
            assert_eq!((verdict.action, verdict.reason), (Action::Deny, Reason::InvalidToken), "{finding:?}");
            assert_eq!(alone.count(finding), before + 1);
            let named = alone.world.named(verdict.rule.unwrap()).unwrap();
            assert_eq!(&*named.policy.name, "r");
        }
        let other = signer.sign(&claims(&json!({"sub": "lee"})));
        let verdict = asked.ask(&[("authorization", &format!("Bearer {other}"))], NOW);
        assert_eq!((verdict.action, verdict.reason), (Action::Deny, Reason::NoRule));
    }

    #[test]
    fn in_an_emergency_a_token_that_is_not_accepted_passes_as_in_audit_and_says_nothing() {
        let (signer, stranger) = (Signer::ed25519("a"), Signer::ed25519("a"));
        let emergency = "---\napiVersion: eastwall.dev/v1alpha1\nkind: BreakGlass\nmetadata: {name: fire}\n\
             spec: {subject: [{serviceAccount: orders, namespace: shop}], reason: x, \
             begins: \"1970-01-01T00:16:40Z\", expires: \"1970-01-01T00:16:45Z\"}\n";
        let accepting = request_authentication("r", ", audiences: [orders], outputPayloadToHeader: X-Payload", &signer);
        let bench = Bench::new(&format!("{accepting}{PRINCIPAL}{emergency}"), Vec::new(), limits());
        let ask = |token: &str, now| bench.ask(&[("authorization", &format!("Bearer {token}"))], now);
        for (token, finding) in refused(&signer, &stranger) {
            if finding != Finding::Expired {
                let before = ask(&token, NOW - 1);
                assert_eq!((before.action, before.reason), (Action::Deny, Reason::InvalidToken), "{finding:?}");
            }
            let verdict = ask(&token, NOW);
            assert_eq!((verdict.action, verdict.reason), (Action::Allow, Reason::BreakGlass), "{finding:?}");
            let audit = verdict.audit.unwrap();
            assert_eq!((audit.action, audit.reason), (Action::Deny, Reason::InvalidToken), "{finding:?}");
            let named = bench.world.named(audit.rule.unwrap()).unwrap();
            assert_eq!(&*named.policy.name, "r", "{finding:?}");
            assert_ne!(ask(&token, NOW + 5).reason, Reason::BreakGlass, "{finding:?}");
        }
        let good = signer.sign(&claims(&json!({})));
        assert_eq!(ask(&good, NOW).reason, Reason::AllowRule, "what passes anyway owes nothing to the emergency");
        let forged = bench.ask(&[("x-payload", "e30")], NOW);
        assert_eq!(
            (forged.action, forged.reason),
            (Action::Deny, Reason::InvalidToken),
            "the workload would believe it"
        );
    }

    #[test]
    fn without_a_request_authentication_nobody_has_a_principal() {
        let signer = Signer::ed25519("a");
        let bench = Bench::new(PRINCIPAL, vec![accepts(SSO)], limits());
        bench.put(&file("sso"), &[&signer]);
        assert_eq!(bench.bearer(&signer.sign(&claims(&json!({})))), Action::Deny, "the settings are for native rules");
        let nobody = PRINCIPAL.replace("requestPrincipals", "notRequestPrincipals");
        let bench = Bench::new(&nobody, Vec::new(), limits());
        assert_eq!(bench.bearer("a.b.c"), Action::Allow, "as in Istio: nobody looks at tokens");
    }

    #[test]
    fn neither_side_speaks_for_the_other() {
        let (team, operator) = (Signer::ed25519("a"), Signer::ed25519("a"));
        let policies = format!("{}{}", allows(REFUND), request_authentication("r", "", &team));
        let bench = Bench::new(&policies, vec![accepts(SSO)], limits());
        bench.put(&file("sso"), &[&operator]);
        let made = claims(&json!({}));
        assert_eq!(bench.bearer(&team.sign(&made)), Action::Deny, "keys of a team are none of the operator's");
        let verdict = bench.ask(&[("authorization", &format!("Bearer {}", operator.sign(&made)))], NOW);
        assert_eq!(verdict.reason, Reason::InvalidToken, "and the other way round");
        bench.put(&file("sso"), &[&team]);
        assert_eq!(bench.bearer(&team.sign(&made)), Action::Allow);
    }

    #[test]
    fn a_token_counts_where_its_rule_looks_for_it() {
        let (one, two) = (Signer::ed25519("a"), Signer::ed25519("b"));
        let policies = [
            request_authentication("r", ", fromHeaders: [{name: X-One}], outputPayloadToHeader: X-Payload", &one),
            request_authentication("s", ", fromCookies: [two]", &two),
        ]
        .concat();
        let bench = Bench::new(&format!("{policies}{PRINCIPAL}"), Vec::new(), limits());
        let (one, two) = (one.sign(&claims(&json!({}))), two.sign(&claims(&json!({}))));
        let (of_one, of_two) = (format!("two={one}"), format!("two={two}"));
        for (lines, expected) in [
            (&[("x-one", &*one)][..], (Action::Allow, Reason::AllowRule)),
            (&[("cookie", &*of_two)], (Action::Allow, Reason::AllowRule)),
            (&[("cookie", &*of_one)], (Action::Deny, Reason::InvalidToken)),
            (&[("x-one", &*two)], (Action::Deny, Reason::InvalidToken)),
            (&[("x-one", &*one), ("cookie", &*of_two)], (Action::Deny, Reason::InvalidToken)),
            (&[("authorization", "Bearer a.b.c")], (Action::Deny, Reason::NoRule)),
            (&[("x-one", &*one), ("x-payload", "e30")], (Action::Deny, Reason::InvalidToken)),
        ] {
            let verdict = bench.ask(lines, NOW);
            assert_eq!((verdict.action, verdict.reason), expected, "{lines:?}");
        }
        assert_eq!(bench.count(Finding::Forged), 1);
    }

    #[test]
    fn a_set_of_a_policy_that_has_just_been_swapped_in_counts_at_once() {
        let signer = Signer::ed25519("a");
        let bench = Bench::new(&request_authentication("r", "", &signer), Vec::new(), limits());
        let rule = &bench.world.model().policies[0].jwt_rules[0];
        assert!(matches!(rule.keys, KeysFrom::Text(_)));
        assert!(bench.verifier.keys.find(&rule.keys).is_some());
        assert_eq!(bench.verifier.keys.missing(), 0);
    }
}
