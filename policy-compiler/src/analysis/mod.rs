//! Check, explain, test: what people ask about policies.

pub mod test;
