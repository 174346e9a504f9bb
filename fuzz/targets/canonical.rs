//! Canonical parts are fixed points and hide nothing. The first byte chooses the opt-ins and the part.
#![no_main]

use eastwall_policy::canonical::{self, Options, Target};
use eastwall_policy::model::HttpOption;
use eastwall_policy::world::CanonicalScope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [choice, raw @ ..] = data else { return };
    let option = |bit: u8| match choice >> bit & 3 {
        0 | 3 => HttpOption::Reject,
        1 => HttpOption::Keep,
        _ => HttpOption::Decode,
    };
    let options =
        Options { escaped_slash: option(0), backslash: option(2), path_parameters: option(4), ..Options::default() };
    path(raw, options);
    host(raw);
    let _ = canonical::query(raw);
    let _ = canonical::method(raw);
    let _ = Target::parse(b"GET", raw);
    let _ = Target::parse(b"OPTIONS", raw);
    let _ = Target::parse(b"CONNECT", raw);
    let lines = || raw.split(|&byte| byte == b'\n').map(|line| line.split_at(line.len() / 2));
    let scope = CanonicalScope { options, watched_headers: vec!["x-role".into()], ..CanonicalScope::default() };
    let _ = canonical::fields(lines(), &scope);
    let _ = canonical::trailers(lines(), &scope);
});

fn path(raw: &[u8], options: Options) {
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    if canonical::path(raw, options, &mut once).is_err() {
        assert!(once.is_empty());
        return;
    }
    canonical::path(&once, options, &mut twice).expect("a canonical path is canonical");
    assert_eq!(once, twice);
    assert!(once.starts_with(b"/") && once.iter().all(u8::is_ascii_graphic));
    assert!(!once.windows(2).any(|pair| pair == b"//"));
    assert!(!once.split(|&byte| byte == b'/').any(|segment| matches!(segment, b"." | b"..")));
}

fn host(raw: &[u8]) {
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    if canonical::authority(raw, &mut once).is_ok() {
        assert_eq!(canonical::authority(&once, &mut twice), Ok(None));
        assert_eq!(once, twice);
        assert!(!once.iter().any(u8::is_ascii_uppercase));
    }
}
