//! Findings are bounded over all documents together, and what is left out is said.

use std::sync::Arc;

use eastwall_policy::diagnostic::{Code, Diagnostic};
use eastwall_policy::dialect::compile;
use eastwall_policy::source::parse;

#[test]
fn many_bad_documents_do_not_tell_without_end() {
    let fields: String = (0..90).map(|number| format!("  x{number}: 1\n")).collect();
    let document = |number: usize| {
        format!(
            "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: p{number}, namespace: shop}}\nspec:\n  subject: [{{any: true}}]\n{fields}"
        )
    };
    let text: Arc<str> = (0..100).map(document).collect::<Vec<_>>().join("---\n").into();
    let compiled = compile(&parse("p.yaml", &text));
    assert_eq!(compiled.refused.len(), 100, "each document counts, told or not");
    assert_eq!(compiled.model.policies.iter().filter(|policy| policy.broken).count(), 100);
    let (closing, told) = compiled.diagnostics.split_last().unwrap();
    assert!(told.len() <= 2_000 && told.iter().all(Diagnostic::is_error), "{}", told.len());
    let all = 100 * 91;
    assert_eq!(
        (closing.code, closing.message.clone()),
        (Code::LeftOut, format!("{} more findings are left out", all - told.len()))
    );
}
