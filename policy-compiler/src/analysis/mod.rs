//! Check, explain, test: what people ask about policies.

pub(crate) mod exposure;
pub mod test;
