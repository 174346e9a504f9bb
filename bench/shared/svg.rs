//! Elements of a picture.

use std::fmt::Write as _;

/// Appends one element and ends the line.
pub fn put(svg: &mut String, element: &str) {
    assert!(writeln!(svg, "{element}").is_ok(), "a text takes what is written to it");
}
