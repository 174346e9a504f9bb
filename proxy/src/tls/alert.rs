//! The one alert that is ever sent.

/// A fatal `access_denied` (49) in a plaintext record: RFC 8446 section 6.2.
pub const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];
