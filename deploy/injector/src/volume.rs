//! The volumes of the proxy: state in memory, a token for the controller, and whom to believe that it is the controller.

use serde_json::{Value, json};

pub(crate) const STATE: &str = "eastwall-state";
pub(crate) const TOKEN: &str = "eastwall-token";
pub(crate) const CA: &str = "eastwall-controller-ca";

/// Of all of them.
pub(crate) const NAMES: [&str; 3] = [STATE, TOKEN, CA];

/// Where the proxy has them.
pub(crate) const STATE_FOLDER: &str = "/run/eastwall";
pub(crate) const TOKEN_FOLDER: &str = "/run/secrets/eastwall";
pub(crate) const CA_FOLDER: &str = "/etc/eastwall/controller-ca";

/// With every default of the API written, so that what comes back from there is the same.
pub(crate) fn volumes() -> [Value; 3] {
    [
        json!({"name": STATE, "emptyDir": {"medium": "Memory", "sizeLimit": STATE_SIZE}}),
        json!({"name": TOKEN, "projected": {"defaultMode": READABLE, "sources": [
            {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        ]}}),
        json!({"name": CA, "configMap": {"name": CA, "defaultMode": READABLE}}),
    ]
}

/// Whom the token is for: the API server takes it from nobody.
const AUDIENCE: &str = "eastwall-controller";

/// The kubelet renews it well before.
const TOKEN_SECONDS: u32 = 3600;

/// 0644: these volumes are in no other container, and the proxy's uid owns no file of the kubelet's.
const READABLE: u32 = 0o644;

/// A slice of the table of a large cluster, keys and certificates; counts as memory of the proxy.
const STATE_SIZE: &str = "64Mi";
