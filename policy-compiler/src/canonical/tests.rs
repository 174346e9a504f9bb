//! Tables of literal bytes. "attack N" is the number of the case in the project's list of attacks on other proxies.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::world::CanonicalScope;

use Refusal::*;

const STRICT: Options = Options {
    escaped_slash: HttpOption::Reject,
    backslash: HttpOption::Reject,
    path_parameters: HttpOption::Reject,
    merge_slashes: HttpOption::Reject,
    method_override: HttpOption::Reject,
    underscore_headers: HttpOption::Reject,
};

fn canonical(raw: &[u8], options: Options) -> Result<Vec<u8>, Refusal> {
    let mut out = b"before".to_vec();
    let result = path(raw, options, &mut out);
    let written = out.strip_prefix(b"before").expect("what was there stays").to_vec();
    assert!(result.is_ok() || written.is_empty(), "a refused path leaves nothing behind");
    result.map(|()| written)
}

fn check_paths(options: Options, table: &[(&str, &[u8], Result<&str, Refusal>)]) {
    for (attack, raw, expected) in table {
        let found = canonical(raw, options);
        let expected = expected.map(|path| path.as_bytes().to_vec());
        assert_eq!(found, expected, "{attack}: {}", raw.escape_ascii());
    }
}

#[test]
fn paths_have_one_canonical_form_or_are_refused() {
    check_paths(
        STRICT,
        &[
            ("plain", b"/", Ok("/")),
            ("plain", b"/orders/7", Ok("/orders/7")),
            ("plain", b"/.well-known/x", Ok("/.well-known/x")),
            ("plain", b"/a.b/..c/...", Ok("/a.b/..c/...")),
            ("plain", b"/-._~!$&'()*+,=:@", Ok("/-._~!$&'()*+,=:@")),
            ("relative", b"", Err(RelativePath)),
            ("relative", b"orders", Err(RelativePath)),
            ("attack 1", b"/public/../admin", Ok("/admin")),
            ("attack 1", b"/public/%2e%2e/admin", Ok("/admin")),
            ("attack 1", b"/public/.%2e/admin", Ok("/admin")),
            ("attack 1", b"/public/%2E./admin", Ok("/admin")),
            ("attack 1", b"/./admin", Ok("/admin")),
            ("attack 1", b"/public/./../admin/./x", Ok("/admin/x")),
            ("attack 1", b"/..", Err(AboveRoot)),
            ("attack 1", b"/a/../../admin", Err(AboveRoot)),
            ("attack 1", b"/%2e%2e/admin", Err(AboveRoot)),
            ("attack 2", b"/a%2Fadmin", Err(EscapedSlash)),
            ("attack 2", b"/a%2fadmin", Err(EscapedSlash)),
            ("attack 2", b"/a%5Cadmin", Err(Backslash)),
            ("attack 2", b"/a%5cadmin", Err(Backslash)),
            ("attack 2", b"/a\\admin", Err(Backslash)),
            ("attack 3", b"//admin", Ok("/admin")),
            ("attack 3", b"///admin", Ok("/admin")),
            ("attack 3", b"/admin//", Ok("/admin/")),
            ("attack 3", b"//", Ok("/")),
            ("attack 3", b"/x//../admin", Err(SlashesWithDots)),
            ("attack 3", b"/x/..//admin", Err(SlashesWithDots)),
            ("attack 3", b"/x/./a//b", Err(SlashesWithDots)),
            ("attack 3", b"/x//%2e", Err(SlashesWithDots)),
            ("attack 4", b"/admin#foo", Err(Fragment)),
            ("attack 4", b"/admin%23foo", Ok("/admin%23foo")),
            ("attack 6", b"/user/..;foo=bar/admin", Err(PathParameters)),
            ("attack 6", b"/.;/admin", Err(PathParameters)),
            ("attack 7", b"/admin;x=y/list", Err(PathParameters)),
            ("attack 7", b"/admin%3Bx=y/list", Err(PathParameters)),
            ("attack 7", b"/admin%3b", Err(PathParameters)),
            ("attack 10", b"pkg.Svc/Method", Err(RelativePath)),
            ("attack 11", b"//admin/x", Ok("/admin/x")),
            ("attack 13", b"/a%3Fb", Ok("/a%3Fb")),
            ("attack 13", b"/a%3fb", Ok("/a%3Fb")),
            ("attack 14", b"/%252e%252e%252f", Ok("/%252e%252e%252f")),
            ("attack 14", b"/%25%32%65", Ok("/%252e")),
            ("attack 15", b"/%00", Err(EscapedControl)),
            ("attack 15", b"/%0d%0aX:1", Err(EscapedControl)),
            ("attack 15", b"/%1F", Err(EscapedControl)),
            ("attack 15", b"/%7f", Err(EscapedControl)),
            ("attack 15", b"/%80", Err(EscapedNonAscii)),
            ("attack 15", b"/%c0%ae%c0%ae/admin", Err(EscapedNonAscii)),
            ("attack 15", b"/%C3%A9", Err(EscapedNonAscii)),
            ("attack 15", b"/caf\xc3\xa9", Err(NonAsciiTarget)),
            ("attack 15", b"/\xff", Err(NonAsciiTarget)),
            ("attack 15", b"/a\0b", Err(TargetCharacter)),
            ("attack 15", b"/a\rb", Err(TargetCharacter)),
            ("attack 15", b"/a\nb", Err(TargetCharacter)),
            ("attack 15", b"/a\tb", Err(TargetCharacter)),
            ("attack 15", b"/a b", Err(TargetCharacter)),
            ("attack 15", b"/a\x7fb", Err(TargetCharacter)),
            ("attack 16", b"/Admin", Ok("/Admin")),
            ("attack 16", b"/%41dmin", Ok("/Admin")),
            ("attack 16", b"/%E2%84%AA", Err(EscapedNonAscii)),
            ("attack 17", b"/foobar", Ok("/foobar")),
            ("attack 18", b"/admin/", Ok("/admin/")),
            ("attack 18", b"/admin/.", Ok("/admin/")),
            ("attack 18", b"/admin/x/..", Ok("/admin/")),
            ("attack 18", b"/admin/%2e", Ok("/admin/")),
            ("escapes", b"/%7Ea%2D%5f%2e", Ok("/~a-_.")),
            ("escapes", b"/%20%22%40%3a", Ok("/%20%22%40%3A")),
            ("escapes", b"/%", Err(MalformedEscape)),
            ("escapes", b"/%2", Err(MalformedEscape)),
            ("escapes", b"/%2g", Err(MalformedEscape)),
            ("escapes", b"/%u002e", Err(MalformedEscape)),
            ("escapes", b"/%+1", Err(MalformedEscape)),
            ("escapes", b"/%%32e", Err(MalformedEscape)),
            ("a query is not part of a path", b"/a?b", Err(TargetCharacter)),
        ],
    );
}

#[test]
fn opt_ins_choose_one_interpretation() {
    let with = |change: fn(&mut Options)| {
        let mut options = STRICT;
        change(&mut options);
        options
    };
    check_paths(
        with(|options| options.escaped_slash = HttpOption::Keep),
        &[
            ("attack 2", b"/a%2fadmin", Ok("/a%2Fadmin")),
            ("attack 2", b"/a%2f..%2fadmin", Err(HiddenDotSegment)),
            ("attack 2", b"/a/..%2fadmin", Err(HiddenDotSegment)),
            ("attack 2", b"/a%2f%2e/admin", Err(HiddenDotSegment)),
            ("attack 2", b"/a%2f.b/../x", Ok("/x")),
            ("attack 2", b"/a%5cadmin", Err(Backslash)),
        ],
    );
    check_paths(
        with(|options| options.escaped_slash = HttpOption::Decode),
        &[
            ("attack 2", b"/a%2Fadmin", Ok("/a/admin")),
            ("attack 2", b"/a%2f..%2fadmin", Ok("/admin")),
            ("attack 3", b"/a%2f/admin", Ok("/a/admin")),
            ("attack 3", b"/a%2f/../admin", Err(SlashesWithDots)),
            ("attack 1", b"/..%2fadmin", Err(AboveRoot)),
            ("attack 14", b"/a%252fadmin", Ok("/a%252fadmin")),
        ],
    );
    check_paths(
        with(|options| options.backslash = HttpOption::Keep),
        &[
            ("attack 2", b"/a\\b%5cc", Ok("/a\\b%5Cc")),
            ("attack 2", b"/a\\..\\admin", Err(HiddenDotSegment)),
            ("attack 2", b"/..%5cadmin", Err(HiddenDotSegment)),
        ],
    );
    check_paths(
        with(|options| options.backslash = HttpOption::Decode),
        &[("attack 2", b"/a\\b%5Cc", Ok("/a/b/c")), ("attack 2", b"/a\\..\\admin", Ok("/admin"))],
    );
    check_paths(
        with(|options| options.path_parameters = HttpOption::Keep),
        &[
            ("attack 7", b"/admin;x=y/list", Ok("/admin;x=y/list")),
            ("attack 7", b"/admin%3bx=y/list", Err(PathParameters)),
            ("attack 6", b"/user/..;foo=bar/admin", Err(HiddenDotSegment)),
            ("attack 6", b"/.;/admin", Err(HiddenDotSegment)),
            ("attack 6", b"/a/%2e%2e;/admin", Err(HiddenDotSegment)),
        ],
    );
    check_paths(
        with(|options| options.merge_slashes = HttpOption::Keep),
        &[
            ("attack 3", b"//admin", Ok("//admin")),
            ("attack 3", b"/a///b//", Ok("/a///b//")),
            ("attack 3", b"/x//../admin", Err(SlashesWithDots)),
        ],
    );
}

#[test]
fn attack_13_canonical_input_is_byte_identical() {
    let paths = ["/", "/a", "/a/", "/orders/7/lines", "/a%20b", "/%3F%23%25", "/.x/..y/z..", "/a:b@c,d=e+f(g)*!'$&"];
    for raw in paths {
        assert_eq!(canonical(raw.as_bytes(), STRICT).unwrap(), raw.as_bytes(), "{raw}");
    }
}

#[test]
fn attack_9_every_pchar_is_data_in_a_segment() {
    for byte in 0_u8..=0x7F {
        let pchar = octet::is_unreserved(byte) || b"!$&'()*+,=:@".contains(&byte);
        if pchar && byte != b'.' {
            let raw = [b"/v/".as_slice(), &[byte], b"/w"].concat();
            assert_eq!(canonical(&raw, STRICT).unwrap(), raw, "{}", byte.escape_ascii());
        }
    }
}

#[test]
fn queries_are_validated_and_left_alone() {
    let cases: &[(&str, &[u8], Result<(), Refusal>)] = &[
        ("plain", b"", Ok(())),
        ("plain", b"a=1&b=%C3%A9&c=+&d&%0A", Ok(())),
        ("plain", b"a=/../;\\?", Ok(())),
        ("escape", b"a=%", Err(MalformedEscape)),
        ("escape", b"a=%4", Err(MalformedEscape)),
        ("escape", b"a=%zz", Err(MalformedEscape)),
        ("attack 4", b"a#b", Err(Fragment)),
        ("attack 15", b"a\rb", Err(TargetCharacter)),
        ("attack 15", b"a b", Err(TargetCharacter)),
        ("attack 15", b"a\xffb", Err(NonAsciiTarget)),
    ];
    for (attack, raw, expected) in cases {
        assert_eq!(query(raw), *expected, "{attack}: {}", raw.escape_ascii());
    }
}

#[test]
fn attacks_22_and_23_hosts_have_one_canonical_form() {
    type Case<'a> = (&'a [u8], Option<(&'a str, Option<u16>)>);
    let cases: &[Case<'_>] = &[
        (b"svc", Some(("svc", None))),
        (b"SVC", Some(("svc", None))),
        (b"Httpbin.Foo", Some(("httpbin.foo", None))),
        (b"svc.", Some(("svc", None))),
        (b"svc.:80", Some(("svc", Some(80)))),
        (b"svc:80", Some(("svc", Some(80)))),
        (b"svc:8080", Some(("svc", Some(8080)))),
        (b"svc:65535", Some(("svc", Some(65535)))),
        (b"10.0.0.1:80", Some(("10.0.0.1", Some(80)))),
        (b"a_b.c-d", Some(("a_b.c-d", None))),
        (b"[::1]", Some(("[::1]", None))),
        (b"[::1]:8080", Some(("[::1]", Some(8080)))),
        (b"[0:0:0:0:0:0:0:1]", Some(("[::1]", None))),
        (b"[FD00::A]", Some(("[fd00::a]", None))),
        (b"[::ffff:10.0.0.1]:80", Some(("10.0.0.1", Some(80)))),
        (b"", None),
        (b".", None),
        (b"..", None),
        (b"a..b", None),
        (b".a", None),
        (b"a..", None),
        (b":80", None),
        (b"svc:", None),
        (b"svc:0", None),
        (b"svc:080", None),
        (b"svc:+80", None),
        (b"svc:65536", None),
        (b"svc:99999", None),
        (b"svc:80:80", None),
        (b"svc:80x", None),
        (b"svc%2elocal", None),
        (b"a@svc", None),
        (b"user:pass@svc", None),
        (b"svc/path", None),
        (b"svc\\path", None),
        (b"svc, other", None),
        (b"svc,other", None),
        (b"svc other", None),
        (b"svc\t", None),
        (b"svc?x", None),
        (b"svc#x", None),
        (b"s\xc3\xa9", None),
        (b"a\0b", None),
        (b"[::1", None),
        (b"::1", None),
        (b"[::1]x", None),
        (b"[fe80::1%25eth0]", None),
        (b"[v1.x]", None),
        (b"[]", None),
        (b"[10.0.0.1]", None),
    ];
    for (raw, expected) in cases {
        let mut out = Vec::new();
        let found = authority(raw, &mut out);
        match expected {
            Some((host, port)) => {
                assert_eq!(found, Ok(*port), "{}", raw.escape_ascii());
                assert_eq!(out, host.as_bytes(), "{}", raw.escape_ascii());
            }
            None => {
                assert_eq!(found, Err(MalformedHost), "{}", raw.escape_ascii());
                assert!(out.is_empty(), "{}", raw.escape_ascii());
            }
        }
    }
    let long = [b'a'; 254];
    assert_eq!(authority(&long, &mut Vec::new()), Err(MalformedHost));
    assert_eq!(authority(&long[1..], &mut Vec::new()), Ok(None));
}

#[test]
fn server_names_are_normalised_like_hosts() {
    let mut out = Vec::new();
    assert_eq!(server_name(b"Orders.Shop.", &mut out), Ok(()));
    assert_eq!(out, b"orders.shop");
    for bad in [b"".as_slice(), b"a:443", b"[::1]", b"a b", b"*.x", b"a\0", b"\xff"] {
        assert_eq!(server_name(bad, &mut Vec::new()), Err(MalformedServerName), "{}", bad.escape_ascii());
    }
}

#[test]
fn attack_23_absolute_form_and_host_must_agree() {
    for (one, other, expected) in [
        ("svc", "svc", Ok(())),
        ("SVC.", "svc", Ok(())),
        ("svc:80", "SVC:80", Ok(())),
        ("svc", "evil", Err(HostMismatch)),
        ("svc:80", "svc", Err(HostMismatch)),
        ("svc:80", "svc:81", Err(HostMismatch)),
        ("svc", "a@svc", Err(MalformedHost)),
    ] {
        assert_eq!(authorities_agree(one.as_bytes(), other.as_bytes()), expected, "{one} {other}");
    }
}

#[test]
fn targets_have_the_form_of_their_method() {
    let cut = |method: &str, raw: &'static str| {
        Target::parse(method.as_bytes(), raw.as_bytes()).map(|target| {
            let text = |part: Option<&[u8]>| part.map_or("-".into(), |part| String::from_utf8(part.to_vec()).unwrap());
            let Target { form, scheme, authority, path, query } = target;
            format!("{form:?} {} {} {} {}", text(scheme), text(authority), text(path), text(query))
        })
    };
    for (method, raw, expected) in [
        ("GET", "/", Ok("Origin - - / -")),
        ("GET", "/a?b=c?d", Ok("Origin - - /a b=c?d")),
        ("GET", "/a?", Ok("Origin - - /a ")),
        // attack 11
        ("GET", "//admin/x", Ok("Origin - - //admin/x -")),
        ("GET", "http://evil/admin", Ok("Absolute http evil /admin -")),
        ("GET", "http://evil?x", Ok("Absolute http evil / x")),
        ("GET", "http://evil", Ok("Absolute http evil / -")),
        ("GET", "http://a@evil/x", Ok("Absolute http a@evil /x -")),
        ("GET", "http://evil\\@svc/x", Ok("Absolute http evil \\@svc/x -")),
        // attack 39
        ("OPTIONS", "*", Ok("Asterisk - - * -")),
        ("OPTIONS", "http://svc", Ok("Absolute http svc * -")),
        ("OPTIONS", "/x", Ok("Origin - - /x -")),
        ("CONNECT", "svc:443", Ok("Authority - svc:443 - -")),
        ("CONNECT", "/x", Err(MalformedTarget)),
        ("CONNECT", "http://svc/", Err(MalformedTarget)),
        ("CONNECT", "*", Err(MalformedTarget)),
        ("CONNECT", "", Err(MalformedTarget)),
        ("GET", "*", Err(MalformedTarget)),
        ("options", "*", Err(MalformedTarget)),
        ("GET", "", Err(MalformedTarget)),
        ("GET", "svc:443", Err(MalformedTarget)),
        ("GET", "foo/bar", Err(MalformedTarget)),
        ("GET", "://svc/", Err(MalformedTarget)),
        ("GET", "http:/svc/", Err(MalformedTarget)),
        // attacks 4 and 5
        ("GET", "/productpage#x", Err(Fragment)),
        ("GET", "/productpage?x#y", Err(Fragment)),
    ] {
        assert_eq!(cut(method, raw), expected.map(str::to_owned), "{method} {raw}");
    }
}

#[test]
fn attack_25_a_scheme_only_repeats_the_transport() {
    for (scheme, stated, expected) in [
        (Scheme::Http, "http", Ok(())),
        (Scheme::Http, "hTTp", Ok(())),
        (Scheme::Http, "hTTpS", Err(WrongScheme)),
        (Scheme::Http, "https", Err(WrongScheme)),
        (Scheme::Https, "HTTPS", Ok(())),
        (Scheme::Https, "http", Err(WrongScheme)),
        (Scheme::Http, "ftp", Err(WrongScheme)),
        (Scheme::Http, "", Err(WrongScheme)),
    ] {
        assert_eq!(scheme.check(stated.as_bytes()), expected, "{stated}");
    }
}

#[test]
fn methods_are_tokens_with_their_case() {
    for good in ["GET", "get", "M-SEARCH", "X!#$%&'*+-.^_`|~9"] {
        assert_eq!(method(good.as_bytes()), Ok(()), "{good}");
    }
    for bad in [b"".as_slice(), b"GE T", b"GET:", b"G\0T", b"GET\xc3\x9f", b"G(T", &[b'A'; 65]] {
        assert_eq!(method(bad), Err(MalformedMethod), "{}", bad.escape_ascii());
    }
}

fn scope(watched: &[&str]) -> CanonicalScope {
    let watched_headers = watched.iter().map(|name| Arc::from(*name)).collect();
    CanonicalScope { watched_headers, ..CanonicalScope::default() }
}

fn judge(lines: &[(&'static str, &'static [u8])], scope: &CanonicalScope) -> Result<(), Refusal> {
    fields(lines.iter().map(|(name, value)| (name.as_bytes(), *value)), scope)
}

#[test]
fn header_lines_are_judged_before_any_rule() {
    let watching = scope(&["x-role", "x-tenant"]);
    type Case<'a> = (&'a str, &'a [(&'static str, &'static [u8])], Result<(), Refusal>);
    let cases: &[Case<'_>] = &[
        ("plain", &[("host", b"svc"), ("accept", b"*/*"), ("x-role", b"user")], Ok(())),
        // attack 19: several lines are several values, which the rules judge
        ("attack 19", &[("x-role", b"user"), ("x-role", b"admin")], Ok(())),
        ("attack 20", &[("x-a", b"a\0b")], Err(ControlInValue)),
        ("attack 20", &[("x-a", b"a\rb")], Err(ControlInValue)),
        ("attack 20", &[("x-a", b"a\nb")], Err(ControlInValue)),
        ("attack 20", &[("x-a", b"a\x0bb")], Err(ControlInValue)),
        ("attack 20", &[("x-a", b"a\x7fb")], Err(ControlInValue)),
        ("attack 20", &[("x-a ", b"a")], Err(MalformedName)),
        ("attack 20", &[("", b"a")], Err(MalformedName)),
        ("attack 20", &[("x\u{e9}", b"a")], Err(MalformedName)),
        ("attack 20", &[("x:y", b"a")], Err(MalformedName)),
        // attack 21: obs-text is data, matched as bytes
        ("attack 21", &[("x-role", b"user\xff")], Ok(())),
        ("tab inside", &[("x-a", b"a\tb")], Ok(())),
        ("attack 23", &[("host", b"a"), ("Host", b"a")], Err(SeveralHosts)),
        ("attack 27", &[("connection", b"x-role")], Err(NominatedHeader)),
        ("attack 27", &[("connection", b"close, X-Role")], Err(NominatedHeader)),
        ("attack 27", &[("Connection", b"x_role")], Err(NominatedHeader)),
        ("attack 27", &[("connection", b"host")], Err(NominatedHeader)),
        ("attack 27", &[("connection", b"content-length")], Err(NominatedHeader)),
        ("attack 27", &[("connection", b"x-eastwall-source")], Err(NominatedHeader)),
        ("attack 27", &[("connection", b"x-other, keep-alive, Upgrade,,te")], Ok(())),
        ("attack 27", &[("connection", b"x other")], Err(MalformedConnection)),
        ("override", &[("X-HTTP-Method-Override", b"DELETE")], Err(OverrideHeader)),
        ("override", &[("x-http-method", b"DELETE")], Err(OverrideHeader)),
        ("override", &[("x-method-override", b"DELETE")], Err(OverrideHeader)),
        ("override", &[("x-original-url", b"/admin")], Err(OverrideHeader)),
        ("override", &[("x-rewrite-url", b"/admin")], Err(OverrideHeader)),
        ("override", &[("x_original_url", b"/admin")], Err(OverrideHeader)),
        ("override", &[("x-forwarded-for", b"10.0.0.1")], Ok(())),
        ("folding", &[("x_role", b"admin")], Err(FoldedName)),
        ("folding", &[("X_Role", b"admin")], Err(FoldedName)),
        ("folding", &[("x.role", b"admin")], Err(FoldedName)),
        ("folding", &[("x_roles", b"admin")], Ok(())),
        ("folding", &[("x_other", b"admin")], Ok(())),
        ("folding", &[("content_length", b"5")], Err(FoldedName)),
        ("folding", &[("Transfer_Encoding", b"chunked")], Err(FoldedName)),
        ("attack 31", &[("content-length", b"5"), ("transfer-encoding", b"chunked")], Err(LengthWithEncoding)),
        ("attack 31", &[("transfer-encoding", b"chunked"), ("content-length", b"5")], Err(LengthWithEncoding)),
        ("attack 31", &[("content-length", b"5"), ("content-length", b"5")], Err(SeveralLengths)),
        ("attack 31", &[("content-length", b"5, 5")], Err(MalformedLength)),
        ("attack 31", &[("content-length", b"+5")], Err(MalformedLength)),
        ("attack 31", &[("content-length", b"-0")], Err(MalformedLength)),
        ("attack 31", &[("content-length", b"0x5")], Err(MalformedLength)),
        ("attack 31", &[("content-length", b"05")], Err(MalformedLength)),
        ("attack 31", &[("content-length", b"")], Err(MalformedLength)),
        ("attack 31", &[("content-length", b"5 0")], Err(MalformedLength)),
        ("attack 31", &[("content-length", b"99999999999999999999")], Err(MalformedLength)),
        ("attack 31", &[("content-length", b"0")], Ok(())),
        ("attack 31", &[("content-length", b"10737418240")], Ok(())),
        ("attack 31", &[("transfer-encoding", b"chunked")], Ok(())),
        ("attack 31", &[("transfer-encoding", b"Chunked")], Err(TransferEncoding)),
        ("attack 31", &[("transfer-encoding", b"chunked, identity")], Err(TransferEncoding)),
        ("attack 31", &[("transfer-encoding", b"gzip, chunked")], Err(TransferEncoding)),
        ("attack 31", &[("transfer-encoding", b"xchunked")], Err(TransferEncoding)),
        ("attack 31", &[("transfer-encoding", b"identity")], Err(TransferEncoding)),
        ("attack 31", &[("transfer-encoding", b"")], Err(TransferEncoding)),
        ("attack 31", &[("transfer-encoding", b"chunked"), ("transfer-encoding", b"chunked")], Err(TransferEncoding)),
    ];
    for (attack, lines, expected) in cases {
        assert_eq!(judge(lines, &watching), *expected, "{attack}: {lines:?}");
    }
}

#[test]
fn opt_ins_let_override_headers_and_folding_names_pass() {
    let mut open = scope(&["x-role"]);
    open.options.method_override = HttpOption::Keep;
    open.options.underscore_headers = HttpOption::Keep;
    assert_eq!(judge(&[("x-http-method-override", b"DELETE"), ("x_role", b"a")], &open), Ok(()));
    assert_eq!(judge(&[("content_length", b"5")], &open), Err(FoldedName), "framing has no second spelling");
}

#[test]
fn a_spelling_that_a_rule_looks_at_is_no_folding() {
    let both = scope(&["x_role", "x-role"]);
    assert_eq!(judge(&[("x_role", b"a"), ("x-role", b"b")], &both), Ok(()));
    let odd = scope(&["x_role"]);
    assert_eq!(judge(&[("x-role", b"a")], &odd), Err(FoldedName));
}

#[test]
fn trailers_bring_nothing_that_the_verdict_rests_on() {
    let watching = scope(&["x-role"]);
    for (name, expected) in [
        ("x-checksum", Ok(())),
        ("grpc-status", Ok(())),
        ("x-role", Err(ForbiddenTrailer)),
        ("X-Role", Err(ForbiddenTrailer)),
        ("x_role", Err(FoldedName)),
        ("x-original-url", Err(ForbiddenTrailer)),
        ("x-http-method", Err(ForbiddenTrailer)),
        ("content-length", Err(ForbiddenTrailer)),
        ("Content_Length", Err(ForbiddenTrailer)),
        ("transfer-encoding", Err(ForbiddenTrailer)),
        ("host", Err(ForbiddenTrailer)),
        ("connection", Err(ForbiddenTrailer)),
        ("authorization", Err(ForbiddenTrailer)),
        ("x-eastwall-source", Err(ForbiddenTrailer)),
        ("bad name", Err(MalformedName)),
    ] {
        let found = trailers([(name.as_bytes(), b"1".as_slice())].into_iter(), &watching);
        assert_eq!(found, expected, "{name}");
        // The body has ended by then: a connection that were kept would be asked for that body again.
        assert!(found.is_ok() || found.is_err_and(Refusal::closes), "{name}");
    }
    let response = |name: &'static str| response_trailers([(name.as_bytes(), b"1".as_slice())].into_iter());
    assert_eq!(response("grpc-status"), Ok(()));
    assert_eq!(response("x-role"), Ok(()));
    assert_eq!(response("content-length"), Err(ForbiddenTrailer));
}

#[test]
fn attack_26_own_headers_are_recognised_in_every_spelling() {
    for name in ["x-eastwall-source", "X-Eastwall-Anything", "x_eastwall_source", "x-eastwall-"] {
        assert!(is_reserved(name.as_bytes()), "{name}");
    }
    for name in ["x-eastwall", "x-eastwal-source", "eastwall-source", "x-east"] {
        assert!(!is_reserved(name.as_bytes()), "{name}");
    }
}

fn any_option() -> impl Strategy<Value = HttpOption> {
    prop_oneof![Just(HttpOption::Decode), Just(HttpOption::Keep), Just(HttpOption::Reject)]
}

fn any_options() -> impl Strategy<Value = Options> {
    (any_option(), any_option(), any_option(), any_option()).prop_map(
        |(escaped_slash, backslash, path_parameters, merge_slashes)| Options {
            escaped_slash,
            backslash,
            path_parameters,
            merge_slashes,
            ..STRICT
        },
    )
}

/// Paths made of what paths are attacked with.
fn any_path() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("/"),
        Just("//"),
        Just("."),
        Just(".."),
        Just("a"),
        Just("%2e"),
        Just("%2F"),
        Just("%5c"),
        Just("\\"),
        Just(";"),
        Just("%41"),
        Just("%25"),
        Just("%3f"),
        Just("%"),
        Just("2"),
        Just("%20"),
        Just(":"),
        Just("%00"),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()).into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn canonical_paths_are_fixed_points(raw in any_path(), options in any_options()) {
        if let Ok(once) = canonical(&raw, options) {
            prop_assert_eq!(canonical(&once, options), Ok(once.clone()));
            prop_assert!(once.starts_with(b"/"));
            let dotted = once.split(|&byte| byte == b'/').any(|segment| matches!(segment, b"." | b".."));
            prop_assert!(!dotted, "{}", once.escape_ascii());
        }
    }

    #[test]
    fn strict_canonical_paths_hide_nothing(raw in any_path()) {
        if let Ok(path) = canonical(&raw, STRICT) {
            let text = String::from_utf8(path).unwrap();
            for hidden in ["//", "%2F", "%2f", "%5C", "%5c", "\\", ";", "%2e", "%2E", "%00"] {
                // `%252e` is a literal percent sign, then digits.
                prop_assert!(!text.replace("%25", "!").contains(hidden), "{text}");
            }
        }
    }

    #[test]
    fn canonical_hosts_are_fixed_points(raw in "[a-zA-Z0-9.:_@%\\[\\]-]{0,12}") {
        let mut once = Vec::new();
        if let Ok(port) = authority(raw.as_bytes(), &mut once) {
            let mut twice = Vec::new();
            prop_assert_eq!(authority(&once, &mut twice), Ok(None));
            prop_assert_eq!(&twice, &once);
            prop_assert!(port != Some(0));
        }
    }

    #[test]
    fn no_input_panics(raw in prop::collection::vec(any::<u8>(), 0..64), options in any_options()) {
        let mut out = Vec::new();
        let _ = path(&raw, options, &mut out);
        let _ = query(&raw);
        let _ = authority(&raw, &mut out);
        let _ = server_name(&raw, &mut out);
        let _ = Target::parse(b"GET", &raw);
        let _ = Target::parse(b"CONNECT", &raw);
        let _ = fields([(raw.as_slice(), raw.as_slice())].into_iter(), &CanonicalScope::default());
    }
}
