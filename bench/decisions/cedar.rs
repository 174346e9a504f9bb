//! The same rules as policies of Cedar, one a rule, and the same questions.

use std::error::Error;
use std::fmt::Write as _;
use std::str::FromStr as _;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression,
};

use crate::questions::Question;
use crate::rules::{METHODS, Rules, Shape};

pub(crate) struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
    account: EntityTypeName,
    app: EntityTypeName,
    actions: Vec<EntityUid>,
}

impl Cedar {
    pub(crate) fn text(rules: &Rules) -> String {
        let mut text = String::new();
        for rule in 0..rules.count {
            let path = match Rules::shape(rule) {
                Shape::Exact => format!("context.path == \"/api/v1/exact-{rule}\""),
                Shape::Tree => format!("context.path like \"/api/v1/tree-{rule}/*\""),
                // Cedar's `*` passes slashes: one segment is some text, less what has a further slash.
                Shape::Items => format!(
                    "context.path like \"/api/v1/items-{rule}/*\" && !(context.path like \"/api/v1/items-{rule}/*/*\")"
                ),
            };
            let written = writeln!(
                text,
                "permit(principal == Account::\"sa-{}\", action == Action::\"{}\", resource == App::\"app-{}\") when {{ {path} }};",
                rules.source(rule),
                METHODS[Rules::method(rule)],
                rules.destination(rule),
            );
            assert!(written.is_ok(), "a text takes what is written to it");
        }
        text
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Box<dyn Error>> {
        let action = EntityTypeName::from_str("Action")?;
        Ok(Self {
            authorizer: Authorizer::new(),
            policies: PolicySet::from_str(text)?,
            entities: Entities::empty(),
            account: EntityTypeName::from_str("Account")?,
            app: EntityTypeName::from_str("App")?,
            actions: METHODS
                .iter()
                .map(|method| EntityUid::from_type_name_and_id(action.clone(), EntityId::new(method)))
                .collect(),
        })
    }

    /// The question in Cedar's own form. Making it is not measured.
    pub(crate) fn request(
        &self,
        destination: usize,
        question: &Question,
        path: &[u8],
    ) -> Result<Request, Box<dyn Error>> {
        let path = RestrictedExpression::new_string(std::str::from_utf8(path)?.to_owned());
        Ok(Request::new(
            EntityUid::from_type_name_and_id(self.account.clone(), EntityId::new(format!("sa-{}", question.source))),
            self.actions[usize::from(question.method)].clone(),
            EntityUid::from_type_name_and_id(self.app.clone(), EntityId::new(format!("app-{destination}"))),
            Context::from_pairs([("path".to_owned(), path)])?,
            None,
        )?)
    }

    pub(crate) fn allows(&self, request: &Request) -> bool {
        self.authorizer.is_authorized(request, &self.policies, &self.entities).decision() == Decision::Allow
    }
}
