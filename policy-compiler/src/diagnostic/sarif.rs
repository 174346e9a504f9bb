//! Findings as a SARIF 2.1.0 log, which code hosts show beside the lines.
//!
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use serde_json::{Value, json};

use super::{Code, Diagnostic, Severity};

/// One run with every rule that was met, and a result for each finding.
#[must_use]
pub fn as_sarif(findings: &[Diagnostic]) -> Value {
    let mut codes: Vec<Code> = findings.iter().map(|finding| finding.code).collect();
    codes.sort();
    codes.dedup();
    let rules: Vec<Value> = codes
        .iter()
        .map(|code| {
            json!({
                "id": code.as_str(),
                "shortDescription": {"text": code.title()},
                "help": {"text": code.help()},
                "defaultConfiguration": {"level": level(code.severity())},
                "helpUri": "https://github.com/eastwall/eastwall/blob/main/docs/diagnostics.md",
            })
        })
        .collect();
    let results: Vec<Value> = findings.iter().map(|finding| result(finding, &codes)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "eastwall", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            // Columns are counted in characters.
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(finding: &Diagnostic, codes: &[Code]) -> Value {
    let mut text = finding.message.clone();
    if let Some(help) = &finding.help {
        text.push_str("\n\nhelp: ");
        text.push_str(help);
    }
    json!({
        "ruleId": finding.code.as_str(),
        "ruleIndex": codes.binary_search(&finding.code).unwrap_or_default(),
        "level": level(finding.severity),
        "message": {"text": text},
        "locations": [{
            "physicalLocation": {
                "artifactLocation": {"uri": uri(&finding.location.file)},
                "region": {"startLine": finding.location.line.max(1), "startColumn": finding.location.column.max(1)},
            },
        }],
        "properties": {"policy": finding.policy},
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// A path as a relative URI reference: what may not stand in one is percent-encoded (RFC 3986, chapter 3.3).
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/!$&'()*+,;=@".contains(&byte);
    path.trim_start_matches("./")
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Location;

    #[test]
    fn a_log_has_what_the_standard_asks_for() {
        let at = |file: &str, line| Location { file: file.into(), line, column: 3 };
        let findings = [
            Diagnostic::new(Code::Syntax, at("./a b.yaml", 7), "not valid"),
            Diagnostic::new(Code::NoHead, at("x.yaml", 1), "`GET` alone").help("add HEAD"),
            Diagnostic::new(Code::Syntax, at("x.yaml", 0), "again"),
        ];
        let log = as_sarif(&findings);
        assert_eq!((&log["version"], &log["runs"][0]["tool"]["driver"]["name"]), (&json!("2.1.0"), &json!("eastwall")));
        let (rules, results) = (&log["runs"][0]["tool"]["driver"]["rules"], &log["runs"][0]["results"]);
        assert_eq!(rules.as_array().unwrap().len(), 2);
        for result in results.as_array().unwrap() {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[index]["id"], result["ruleId"]);
            assert!(!rules[index]["help"]["text"].as_str().unwrap().is_empty());
            assert!(result["message"]["text"].is_string());
            let region = &result["locations"][0]["physicalLocation"]["region"];
            assert!(region["startLine"].as_u64().unwrap() >= 1 && region["startColumn"] == 3);
        }
        assert_eq!(results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "a%20b.yaml");
        assert_eq!((&results[0]["level"], &results[1]["level"]), (&json!("error"), &json!("note")));
        assert_eq!(results[1]["message"]["text"], "`GET` alone\n\nhelp: add HEAD");
    }
}
