//! What people ask about policies: what is wrong with them, why a request is judged as it is, what a change opens and
//! closes, who can reach whom, and which policy recorded traffic needs.

pub mod accepted;
pub mod cast;
pub mod check;
pub mod diff;
pub mod emergency;
pub mod explain;
pub mod exposure;
pub mod reach;
pub mod space;
pub mod suggest;
pub mod test;
