//! Asks the API server whose a token is.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::{Api, PostParams};

use super::caller::{AUDIENCE, Review, ReviewError, Reviewed, Reviewer};
use crate::kubernetes::Said;

impl Reviewer for kube::Client {
    fn review<'a>(&'a self, token: &'a str) -> Review<'a> {
        Box::pin(async move {
            let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) };
            let review = TokenReview { spec, ..TokenReview::default() };
            let answer = Api::<TokenReview>::all(self.clone()).create(&PostParams::default(), &review).await;
            let answer = answer.map_err(|error| ReviewError::Unavailable(Said(&error).to_string()))?;
            reviewed(answer)
        })
    }
}

fn reviewed(answer: TokenReview) -> Result<Reviewed, ReviewError> {
    let status = answer.status.unwrap_or_default();
    if status.authenticated != Some(true) {
        return Err(ReviewError::Refused(status.error.unwrap_or_else(|| "the API server does not know it".to_owned())));
    }
    let user = status.user.unwrap_or_default();
    Ok(Reviewed {
        user: user.username.unwrap_or_default(),
        extra: user.extra.unwrap_or_default(),
        audiences: status.audiences.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_api_server_says_is_taken_word_for_word() {
        let read = |status: serde_json::Value| {
            reviewed(serde_json::from_value(json!({"metadata": {}, "spec": {}, "status": status})).unwrap())
        };
        let extra = json!({"authentication.kubernetes.io/pod-name": ["a"]});
        let user = json!({"username": "system:serviceaccount:shop:web", "extra": extra});
        let good = read(json!({"authenticated": true, "audiences": [AUDIENCE], "user": user})).unwrap();
        assert_eq!(
            (good.user.as_str(), good.audiences.as_slice()),
            ("system:serviceaccount:shop:web", &[AUDIENCE.to_owned()][..])
        );
        assert_eq!(good.extra["authentication.kubernetes.io/pod-name"], ["a"]);
        for bad in [
            json!({"authenticated": false, "user": user, "audiences": [AUDIENCE]}),
            json!({"user": user, "audiences": [AUDIENCE]}),
            json!({"error": "expired"}),
            json!(null),
        ] {
            assert!(matches!(read(bad), Err(ReviewError::Refused(_))));
        }
        // A server that knows of no audiences accepts any: the caller is refused later.
        assert!(read(json!({"authenticated": true, "user": user})).unwrap().audiences.is_empty());
    }
}
