//! A ClientHello says the same however little of it has arrived: nothing yet, or what the whole says.
#![no_main]

use eastwall::tls;
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 16 * 1024;

fuzz_target!(|data: &[u8]| {
    let Ok(Some(whole)) = tls::read(data, LIMIT) else { return };
    for cut in 0..data.len() {
        match tls::read(&data[..cut], LIMIT) {
            Ok(None) => {}
            Ok(Some(early)) => assert_eq!(early, whole),
            Err(error) => panic!("{error} after {cut} bytes of a good hello"),
        }
    }
});
