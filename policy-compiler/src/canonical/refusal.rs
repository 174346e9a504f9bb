//! Why a request is not a valid canonical request.

/// One table binds refusal → label. The status is always 400 unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// `%2F` in the path.
    EscapedSlash,
}
