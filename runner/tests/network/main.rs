//! Networks as containers and the world see them. Every test runs in network namespaces of its own, so nothing of the
//! machine's network is touched. Needs root and the Debian packages iproute2, nftables and iptables; without them each
//! test says so and passes.

mod bridge;
mod firewall;
mod leftovers;
mod publishing;
mod support;
mod user_mode;
