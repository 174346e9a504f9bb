//! Policies in, tables and verdicts out.
//!
//! The way of a document: [`source`] reads files into documents, a [`dialect`] turns each document into policies of
//! the one [`model`], [`table`] compiles the model, and [`world`] joins the table with the [`registry`] of workloads
//! and answers for a flow. A request enters through [`canonical`], which gives it its one interpretation.
//!
//! No sockets, no async, no clock: whoever asks for a verdict says what time it is.

pub mod analysis;
pub mod canonical;
pub mod diagnostic;
pub mod dialect;
pub mod facts;
pub mod flow;
pub mod model;
pub mod pace;
pub mod registry;
pub mod settings;
pub mod source;
pub mod table;
pub mod verdict;
pub mod world;
