//! The mesh's own trust domains, which stand for each other.

use crate::settings::Istio;

/// The mesh's trust domain and its aliases.
#[derive(Clone, Debug)]
pub(super) struct TrustDomains<'a> {
    own: Vec<&'a str>,
}

impl<'a> TrustDomains<'a> {
    pub(super) fn new(istio: &'a Istio, cluster_trust_domain: &'a str) -> Self {
        let own = istio.trust_domain.as_deref().unwrap_or(cluster_trust_domain);
        Self { own: std::iter::once(own).chain(istio.trust_domain_aliases.iter().map(String::as_str)).collect() }
    }

    /// A principal under every domain that its own stands for.
    ///
    /// SPEC: only a value of five segments names a trust domain; a lone `*` there names none.
    pub(super) fn expand_principal(&self, value: &str) -> Vec<String> {
        let Some((domain, rest)) = value.split_once('/') else { return vec![value.to_owned()] };
        if rest.split('/').count() != 4 || domain == "*" {
            return vec![value.to_owned()];
        }
        let known = domain == "cluster.local" || self.own.iter().any(|own| related(own, domain));
        if !known {
            return vec![value.to_owned()];
        }
        let mut expanded: Vec<String> = Vec::new();
        for own in &self.own {
            let kept = domain.strip_prefix('*').is_some_and(|suffix| own.ends_with(suffix));
            let next = if kept { value.to_owned() } else { format!("{own}/{rest}") };
            if !expanded.contains(&next) {
                expanded.push(next);
            }
        }
        expanded
    }

    /// A trust domain, and the others if it is one of the mesh's own. `cluster.local` is nothing special here.
    pub(super) fn expand<'v>(&self, value: &'v str) -> Vec<&'v str>
    where
        'a: 'v,
    {
        if self.own.contains(&value) { self.own.clone() } else { vec![value] }
    }
}

fn related(own: &str, domain: &str) -> bool {
    own == domain
        || domain.strip_prefix('*').is_some_and(|suffix| own.ends_with(suffix))
        || domain.strip_suffix('*').is_some_and(|prefix| own.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_local_stands_for_the_mesh_and_its_aliases() {
        let mut istio = crate::settings::Settings::default().istio;
        istio.trust_domain = Some("td1".into());
        istio.trust_domain_aliases = vec!["td2".into()];
        let mesh = TrustDomains::new(&istio, "cluster.local");
        for (written, expected) in [
            ("cluster.local/ns/foo/sa/a", &["td1/ns/foo/sa/a", "td2/ns/foo/sa/a"][..]),
            ("td2/ns/foo/sa/a", &["td1/ns/foo/sa/a", "td2/ns/foo/sa/a"]),
            ("td3/ns/foo/sa/a", &["td3/ns/foo/sa/a"]),
            ("*/ns/foo/sa/a", &["*/ns/foo/sa/a"]),
            ("*1/ns/foo/sa/a", &["*1/ns/foo/sa/a", "td2/ns/foo/sa/a"]),
            ("sa/a", &["sa/a"]),
        ] {
            assert_eq!(mesh.expand_principal(written), expected, "{written}");
        }
        assert_eq!(mesh.expand("td2"), ["td1", "td2"]);
        assert_eq!(mesh.expand("cluster.local"), ["cluster.local"]);
        assert_eq!(mesh.expand("td*"), ["td*"]);
    }
}
