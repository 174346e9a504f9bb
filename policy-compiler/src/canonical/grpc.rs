//! Which requests over HTTP/2 are gRPC calls.

/// SPEC: gRPC over HTTP/2: a call is a POST whose one content type is `application/grpc`, plain, with a `+` suffix or with
/// parameters. Anything else is HTTP: what looks like a call to one reader alone is none.
#[must_use]
pub fn is_grpc_call<'v>(method: &[u8], mut content_types: impl Iterator<Item = &'v [u8]>) -> bool {
    let (Some(value), None) = (content_types.next(), content_types.next()) else { return false };
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    let Some((kind, suffix)) = kind.split_at_checked(GRPC.len()) else { return false };
    method == b"POST" && kind.eq_ignore_ascii_case(GRPC) && matches!(suffix, [] | [b'+', _, ..])
}

const GRPC: &[u8] = b"application/grpc";

#[cfg(test)]
mod tests {
    use super::is_grpc_call;

    #[test]
    fn a_call_is_a_post_of_one_content_type() {
        for (method, types, expected) in [
            ("POST", &["application/grpc"][..], true),
            ("POST", &["Application/gRPC"], true),
            ("POST", &["application/grpc+proto"], true),
            ("POST", &["application/grpc; charset=utf-8"], true),
            ("POST", &["application/grpc ;a=b"], true),
            ("POST", &["application/grpc+"], false),
            ("POST", &["application/grpc-web"], false),
            ("POST", &["application/grpcx"], false),
            ("POST", &["application/grpc x"], false),
            ("POST", &["application/json"], false),
            ("POST", &["application/grpc", "application/json"], false),
            ("POST", &["application/json", "application/grpc"], false),
            ("POST", &[], false),
            ("GET", &["application/grpc"], false),
            ("post", &["application/grpc"], false),
        ] {
            let types = types.iter().map(|value| value.as_bytes());
            let shown = types.clone().map(String::from_utf8_lossy).collect::<Vec<_>>();
            assert_eq!(is_grpc_call(method.as_bytes(), types), expected, "{method} {shown:?}");
        }
    }
}
