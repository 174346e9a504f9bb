//! An upstream's head gives the same answer wherever it is cut, and what goes to the client reads as the same. The
//! first byte says what was asked and where to cut.
#![no_main]

use eastwall::http1::{Asked, HeadLimits, ResponseHead, Version, write};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { bytes: 2048, fields: 16 };

fuzz_target!(|data: &[u8]| {
    let [choice, input @ ..] = data else { return };
    let upgrade = (choice & 3 == 3).then_some(b"websocket".as_slice());
    let asked = Asked { head: choice & 3 == 1, connect: choice & 3 == 2, upgrade };
    let mut whole = ResponseHead::default();
    let result = whole.read(input, LIMITS, asked);

    let mut cut = ResponseHead::default();
    let step = usize::from(choice >> 2) + 1;
    let mut end = 0;
    let in_parts = loop {
        match cut.read(&input[..end], LIMITS, asked) {
            Ok(None) if end < input.len() => end = (end + step).min(input.len()),
            result => break result,
        }
    };
    assert_eq!(in_parts, result);
    let Ok(Some(_)) = result else { return };

    let (mut once, mut twice) = (Vec::new(), Vec::new());
    write::response_head(&whole, Version::Http11, false, &mut once);
    let roomy = HeadLimits { bytes: 8192, fields: 32 };
    assert_eq!(cut.read(&once, roomy, asked), Ok(Some(once.len())), "{}", once.escape_ascii());
    assert_eq!((cut.body_length(), cut.is_tunnel()), (whole.body_length(), whole.is_tunnel()));
    write::response_head(&cut, Version::Http11, false, &mut twice);
    assert_eq!(once, twice);
});
