//! Outcomes as JUnit XML: a suite a `PolicyTest`, as the CI systems read it, and one that holds the coverage.

use eastwall_policy::analysis::test::{Coverage, Outcome};

/// The whole document.
pub(super) fn document(outcomes: &[Outcome], reached: Option<&Coverage>) -> String {
    let failures = |outcomes: &[Outcome]| outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    text.push_str(&format!(
        "<testsuites name=\"eastwall\" tests=\"{}\" failures=\"{}\">\n",
        outcomes.len(),
        failures(outcomes)
    ));
    for suite in outcomes.chunk_by(|one, other| one.test == other.test) {
        let name = suite.first().map(|outcome| escaped(&outcome.test)).unwrap_or_default();
        let (tests, failed) = (suite.len(), failures(suite));
        text.push_str(&format!("  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failed}\">\n"));
        for outcome in suite {
            let (case, file) = (escaped(&outcome.case), escaped(&outcome.location.file));
            let line = outcome.location.line;
            text.push_str(&format!(
                "    <testcase classname=\"{name}\" name=\"{case}\" file=\"{file}\" line=\"{line}\""
            ));
            match &outcome.failure {
                None => text.push_str("/>\n"),
                Some(failure) => {
                    let message = escaped(&failure.to_string());
                    let details: Vec<String> = outcome.nearest.iter().map(|near| format!("nearest: {near}")).collect();
                    let details = escaped(&details.join("\n"));
                    text.push_str(&format!(
                        ">\n      <failure message=\"{message}\">{details}</failure>\n    </testcase>\n"
                    ));
                }
            }
        }
        text.push_str("  </testsuite>\n");
    }
    text.extend(reached.map(properties));
    text.push_str("</testsuites>\n");
    text
}

/// A suite without cases, whose properties say which rules the cases reached.
fn properties(coverage: &Coverage) -> String {
    let mut text = String::from("  <testsuite name=\"coverage\" tests=\"0\" failures=\"0\">\n    <properties>\n");
    let mut put = |name: &str, value: &str| {
        text.push_str(&format!("      <property name=\"{name}\" value=\"{}\"/>\n", escaped(value)));
    };
    put("rules", &coverage.rules.to_string());
    put("reached", &coverage.reached.to_string());
    put("percent", &coverage.percent().to_string());
    coverage.missed.iter().for_each(|missed| put("missed", missed));
    text + "    </properties>\n  </testsuite>\n"
}

/// Text of an attribute or element. Characters that XML 1.0 cannot hold become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}' => out.push(c),
            _ => out.push('\u{FFFD}'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_attribute() {
        assert_eq!(escaped("a\"<b>&\u{1}\n"), "a&quot;&lt;b&gt;&amp;\u{FFFD}&#10;");
    }

    #[test]
    fn coverage_is_a_suite_of_properties() {
        assert!(!document(&[], None).contains("coverage"));
        let coverage = Coverage { rules: 3, reached: 2, missed: vec!["rule `<x>`".to_owned()] };
        let expected = r#"  <testsuite name="coverage" tests="0" failures="0">
    <properties>
      <property name="rules" value="3"/>
      <property name="reached" value="2"/>
      <property name="percent" value="66"/>
      <property name="missed" value="rule `&lt;x&gt;`"/>
    </properties>
  </testsuite>
</testsuites>
"#;
        assert!(document(&[], Some(&coverage)).ends_with(expected), "{}", document(&[], Some(&coverage)));
    }
}
