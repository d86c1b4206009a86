//! Rules of ours in the chain of another program: `FORWARD` of `iptables` where that is a front end of nf_tables.
//!
//! Every table has to accept a packet. Docker sets the policy of this chain to drop, so packets of our networks would
//! not pass, whatever our own table says.

use std::io;

use super::super::super::netlink::Message;
use super::super::super::netlink::message::find;
use super::super::expression::{Expressions, IPV4, IPV6, Property, Verdict, interface_name};
use super::{SERVICE_HEADER, Tables, header, kind, rule_message};

/// `NFT_MSG_GETCHAIN`, `NFT_MSG_GETRULE`, `NFT_MSG_DELRULE`
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;

/// The families that `iptables` and `ip6tables` keep their rules in, where those are front ends of nf_tables.
const FAMILIES: [u8; 2] = [IPV4, IPV6];

/// Adds rules that let the network's packets pass to the chain `FORWARD` of `iptables` where its policy is to
/// drop, and where they are missing. Docker sets that policy.
pub(super) fn admit(tables: &mut Tables, bridge: &str) -> io::Result<()> {
    for family in FAMILIES {
        if !drops_forwarded(tables, family)? || !admitted(tables, family, bridge)?.is_empty() {
            continue;
        }
        let pass = |property| {
            let rule = Expressions::new().match_interface(property, true, bridge).count();
            rule_message(family, "filter", "FORWARD", rule.verdict(Verdict::Accept), 0)
        };
        tables.batch(vec![pass(Property::InputName), pass(Property::OutputName)])?;
    }
    Ok(())
}

/// Removes what [`admit`] added.
pub(super) fn withdraw(tables: &mut Tables, bridge: &str) -> io::Result<()> {
    for family in FAMILIES {
        for handle in admitted(tables, family, bridge)? {
            let message = Message::unacknowledged(kind(DELETE_RULE), 0, &header(family, 0));
            let message = message.text(1, "filter").text(2, "FORWARD").attribute(3, &handle);
            tables.batch(vec![message])?;
        }
    }
    Ok(())
}

/// Whether the chain `FORWARD` of `iptables` drops what no rule of it accepts.
fn drops_forwarded(tables: &mut Tables, family: u8) -> io::Result<bool> {
    const POLICY: u16 = 5;
    let message = Message::query(kind(GET_CHAIN), &header(family, 0)).text(1, "filter").text(3, "FORWARD");
    match tables.socket.query(message) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        answer => {
            let answer = answer?;
            let policy = answer.get(SERVICE_HEADER..).and_then(|body| find(body, POLICY));
            Ok(policy == Some(&(Verdict::Drop as u32).to_be_bytes()))
        }
    }
}

/// The handles of the rules in the chain `FORWARD` of `iptables` that name the bridge.
fn admitted(tables: &mut Tables, family: u8, bridge: &str) -> io::Result<Vec<Vec<u8>>> {
    const HANDLE: u16 = 3;
    const EXPRESSIONS: u16 = 4;
    let name = interface_name(bridge);
    let mut handles = Vec::new();
    let message = Message::dump(kind(GET_RULE), &header(family, 0)).text(1, "filter").text(2, "FORWARD");
    let dumped = tables.socket.dump(message, |body| {
        let Some(body) = body.get(SERVICE_HEADER..) else { return };
        let expressions = find(body, EXPRESSIONS).unwrap_or_default();
        let is_ours = expressions.windows(name.len()).any(|window| window == name);
        handles.extend(find(body, HANDLE).filter(|_| is_ours).map(<[u8]>::to_vec));
    });
    match dumped {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map(|()| handles),
    }
}
