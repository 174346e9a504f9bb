//! The data plane of Eastwall and its `eastwall` command.
//!
//! A connection goes down this list, folder by folder: [`intercept`] → [`connection`] → [`identity`] → [`detect`] →
//! [`http1`] | [`http2`] | [`tls`] | [`stream`] → upstream. [`hbone`] stands at both ends where the way is encrypted. On its way it calls the table through [`policy`] and tells [`observe`];
//! nothing calls back.

mod admin;
mod allocator;
mod app;
mod bounds;
mod cni;
pub mod command;
mod config;
mod connection;
mod controller;
pub mod detect;
mod hbone;
pub mod http1;
mod http2;
mod identity;
mod intercept;
mod observe;
mod policy;
mod stream;
pub mod tls;
