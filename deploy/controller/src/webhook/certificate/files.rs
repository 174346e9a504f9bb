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
    let mut held = None;
    let mut told = None;
    loop {
        let problem = match read(&files).await {
            Ok(pair) if held.as_ref() == Some(&pair) => None,
            Ok(pair) => match identity.put(&pair.0, &pair.1) {
                Ok(()) => {
                    tracing::info!(certificate = %files.chain.display(), "the webhooks' certificate was read");
                    held = Some(pair);
                    None
                }
                Err(problem) => Some(problem),
            },
            Err(problem) => Some(problem),
        };
        if problem.is_some() && problem != told {
            let problem = problem.as_deref().unwrap_or_default();
            tracing::error!("{}: {problem}; the certificate before stays", files.chain.display());
        }
        told = problem;
        tokio::time::sleep(ROUND).await;
    }
}

async fn read(files: &Files) -> Result<(Vec<u8>, Vec<u8>), String> {
    let read = |path: PathBuf| async move {
        tokio::task::spawn_blocking(move || {
            std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
        })
        .await
        .map_err(|error| error.to_string())?
    };
    Ok((read(files.chain.clone()).await?, read(files.key.clone()).await?))
}

/// Between two looks: a mounted Secret itself takes up to a minute to change.
const ROUND: Duration = Duration::from_secs(10);
