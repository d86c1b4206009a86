//! Netlink: how the kernel is told about interfaces, addresses, routes and firewall rules (`netlink(7)`).
//!
//! [`message`] writes and reads messages, [`Socket`] carries them. Both of the kernel's services that we use,
//! rtnetlink (`rtnetlink(7)`) and nf_tables, have the same framing; what is in the messages is the business of
//! [`super::link`] and [`super::firewall::nftables`].
//!
//! A socket stays in the network namespace that it was made in, whatever its user does later. So one that was
//! made inside a container's namespace configures that namespace from outside.

pub(super) mod message;
mod socket;

pub(super) use message::{Attributes, Message};
pub(super) use socket::{Protocol, Socket};
