//! A certificate in files that somebody else renews, cert-manager for example.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Identity;

/// Where certificate chain and key stand, PEM.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// Takes what the files hold, now and whenever it changes. A pair that does not fit, as while it is written, is tried again.
pub(crate) async fn follow(files: Files, identity: Arc<Identity>) {
    let mut follower = Follower { files, held: None, told: None };
    loop {
        let looked = tokio::task::spawn_blocking({
            let identity = Arc::clone(&identity);
            move || {
                follower.look(&identity);
                follower
            }
        });
        follower = match looked.await {
            Ok(follower) => follower,
            Err(error) => return tracing::error!(%error, "nobody looks at the certificate's files any more"),
        };
        tokio::time::sleep(ROUND).await;
    }
}

struct Follower {
    files: Files,
    /// Chain and key that were taken.
    held: Option<(Vec<u8>, Vec<u8>)>,
    /// The problem that was told last.
    told: Option<String>,
}

impl Follower {
    fn look(&mut self, identity: &Identity) {
        let problem = self.take(identity).err();
        if let Some(problem) = problem.as_ref().filter(|problem| self.told.as_ref() != Some(problem)) {
            tracing::error!("the webhooks' certificate: {problem}; the one before stays");
        }
        self.told = problem;
    }

    fn take(&mut self, identity: &Identity) -> Result<(), String> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let pair = (read(&self.files.chain)?, read(&self.files.key)?);
        if self.held.as_ref() != Some(&pair) {
            let shown = self.files.chain.display();
            identity.put(&pair.0, &pair.1).map_err(|problem| format!("{shown}: {problem}"))?;
            tracing::info!(certificate = %shown, "the webhooks' certificate was read");
            self.held = Some(pair);
        }
        Ok(())
    }
}

/// Between two looks: a mounted Secret itself takes up to a minute to change.
const ROUND: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::fs::write;

    use super::super::issue::issue;
    use super::*;

    #[test]
    fn files_that_are_renewed_are_taken_once_they_fit() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { chain: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        let mut follower = Follower { files: files.clone(), held: None, told: None };
        let identity = Identity::default();
        let mut looks = || {
            follower.look(&identity);
            (identity.held.load_full(), follower.told.clone())
        };
        let (nothing, told) = looks();
        assert!(nothing.is_none() && told.unwrap().contains("tls.crt"));

        let issued = || issue(&["localhost".to_owned()], jiff::Timestamp::now()).unwrap();
        let (old, new) = (issued(), issued());
        write(&files.chain, &old.chain).unwrap();
        write(&files.key, &old.key).unwrap();
        let (first, told) = looks();
        assert!(first.is_some() && told.is_none());

        // Half of the new pair is written.
        write(&files.chain, &new.chain).unwrap();
        let (still, told) = looks();
        assert!(Arc::ptr_eq(first.as_ref().unwrap(), still.as_ref().unwrap()) && told.unwrap().contains("do not fit"));
        write(&files.key, &new.key).unwrap();
        let (second, told) = looks();
        assert!(!Arc::ptr_eq(first.as_ref().unwrap(), second.as_ref().unwrap()) && told.is_none());
    }
}
