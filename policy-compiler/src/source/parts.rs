//! One text to trees, one a document, within the bounds of a file.

use std::ops::Range;

use super::split::{self, split};
use super::tree::{self, Node, TreeError};
use super::{Bounds, Span};
use crate::diagnostic::Code;

/// One document, as far as it was read.
pub(super) struct Part {
    /// Its bytes in the text.
    pub(super) range: Range<usize>,
    /// What was read of it; `None` where that is nothing.
    pub(super) tree: Option<Node>,
    /// What is wrong with it.
    pub(super) error: Option<TreeError>,
}

/// The documents of a text. Where it holds more than it may, the last part stands for all that was not read.
pub(super) fn parts<'t>(file: &str, text: &'t str, bounds: &'t Bounds) -> impl Iterator<Item = Part> + use<'t> {
    // A byte-order mark is no part of the text, and would shift the columns of the first line.
    let offset = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let body = text.get(offset..).unwrap_or_default();
    let parts = split(body, bounds.documents.saturating_add(1));
    let mut documents = bounds.documents;
    let mut values = bounds.values;
    let mut is_over = false;
    let is_json = file.rsplit_once('.').is_some_and(|(_, extension)| extension.eq_ignore_ascii_case("json"));
    parts.into_iter().map_while(move |split::Part { range, line }| {
        if is_over {
            return None;
        }
        let start = range.start + offset;
        let slice = body.get(range.clone()).unwrap_or_default();
        if documents == 0 || values == 0 {
            is_over = true;
            let what = match documents {
                0 => format!("{} documents", bounds.documents),
                _ => format!("{} values", bounds.values),
            };
            let error =
                too_large(start, line, format!("the file holds more than {what}: nothing is read from here on"));
            return Some(Part { range: start..text.len(), tree: None, error: Some(error) });
        }
        documents -= 1;
        let (tree, mut error) = tree::read(slice, start, line, bounds, &mut values);
        if is_json && error.is_none() {
            error = no_json(slice, start, line);
        }
        Some(Part { range: start..range.end + offset, tree, error })
    })
}

/// A file that is called JSON must be JSON: YAML takes more than that (a comma at the end, single quotes, comments), and
/// who else reads the file would not.
fn no_json(text: &str, offset: usize, line: u32) -> Option<TreeError> {
    let error = serde_json::from_str::<serde::de::IgnoredAny>(text).err()?;
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let column = error.column().max(1);
    let mut start = (before + column - 1).min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let span = Span {
        start: number(offset + start),
        length: 1,
        line: line.saturating_add(number(error.line().max(1))),
        column: number(text.get(before..start).map_or(column, |part| part.chars().count() + 1)),
    };
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    let message = format!("not JSON: {message}");
    let help = Some("correct it, or call the file `.yaml`, which may hold more");
    Some(TreeError { code: Code::Syntax, span, message, help })
}

fn too_large(start: usize, line: u32, message: String) -> TreeError {
    let start = u32::try_from(start).unwrap_or(u32::MAX);
    let span = Span { start, length: 0, line: line.saturating_add(1), column: 1 };
    TreeError { code: Code::TooLarge, span, message, help: Some("split it into several files") }
}
