//! Findings of many documents, bounded.

use super::{Code, Diagnostic};

/// Keeps the first findings, errors and others apart, and counts the rest: files of nonsense must not cost memory
/// without end, and nobody reads more.
#[derive(Clone, Debug, Default)]
pub struct Told {
    errors: Vec<Diagnostic>,
    others: Vec<Diagnostic>,
    left_out: usize,
}

impl Told {
    /// Adds a finding.
    pub fn push(&mut self, finding: Diagnostic) {
        let list = if finding.is_error() { &mut self.errors } else { &mut self.others };
        if list.len() < MOST {
            list.push(finding);
        } else {
            self.left_out += 1;
        }
    }

    /// Adds what others told, with their count of what was left out.
    pub fn join(&mut self, other: Self) {
        self.left_out += other.left_out;
        self.extend(other.errors.into_iter().chain(other.others));
    }

    /// All of it in order of places, with a closing line where something was left out. Errors go before the others.
    #[must_use]
    pub fn into_list(mut self) -> Vec<Diagnostic> {
        let kept = MOST.saturating_sub(self.errors.len());
        sort(&mut self.others);
        self.left_out += self.others.len().saturating_sub(kept);
        self.others.truncate(kept);
        let mut list = self.errors;
        list.append(&mut self.others);
        sort(&mut list);
        if let Some(last) = list.last().filter(|_| self.left_out > 0) {
            let message = format!("{} more findings are left out", self.left_out);
            let closing = Diagnostic::new(Code::LeftOut, last.location.clone(), message);
            list.push(closing.help("mend these first, or read fewer files at once"));
        }
        list
    }
}

impl Extend<Diagnostic> for Told {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, findings: I) {
        findings.into_iter().for_each(|finding| self.push(finding));
    }
}

/// In order of places, then codes.
pub fn sort(findings: &mut [Diagnostic]) {
    findings.sort_by(|a, b| (&a.location, a.code).cmp(&(&b.location, b.code)));
}

/// Findings that one compilation tells.
const MOST: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Location;

    fn finding(code: Code, line: usize) -> Diagnostic {
        let line = u32::try_from(line).unwrap();
        Diagnostic::new(code, Location { file: "p.yaml".into(), line, column: 1 }, "x")
    }

    #[test]
    fn errors_are_told_first_and_what_is_left_out_is_counted() {
        let mut told = Told::default();
        told.extend((1..=MOST).map(|line| finding(Code::NoHead, line)));
        assert_eq!(told.clone().into_list().len(), MOST, "nothing is left out");
        told.extend([finding(Code::Syntax, MOST + 5), finding(Code::NoHead, MOST + 6)]);
        let list = told.into_list();
        assert_eq!(list.len(), MOST + 1);
        assert!(list.iter().any(Diagnostic::is_error));
        let closing = list.last().unwrap();
        assert_eq!((closing.code, closing.message.as_str()), (Code::LeftOut, "2 more findings are left out"));
        let mut lines: Vec<u32> = list.iter().map(|finding| finding.location.line).collect();
        assert!(lines.is_sorted(), "in order of places");
        lines.dedup();
        assert_eq!(lines[MOST - 2], u32::try_from(MOST - 1).unwrap(), "the first notes are kept");
    }

    #[test]
    fn what_others_left_out_counts() {
        let mut one = Told::default();
        one.extend((0..=MOST).map(|line| finding(Code::Syntax, line)));
        let mut all = one.clone();
        all.join(one);
        assert_eq!(all.into_list().last().unwrap().message, format!("{} more findings are left out", MOST + 2));
    }
}
