//! Rules through `iptables-restore` and `ip6tables-restore`, for kernels without nf_tables.
//!
//! Every network has three chains: `LAP-D-BRIDGE` redirects to containers, `LAP-M-BRIDGE` masquerades, and
//! `LAP-F-BRIDGE` says what is forwarded. One call of the program makes all changes of one family, or none.

use super::super::error::NetworkError;
use super::super::program;
use super::{Change, GatewayMode, Redirect, Rules};

/// The programs of one family.
struct Family {
    /// Changes a single rule.
    single: [&'static str; 2],
    /// Changes many.
    restore: [&'static str; 2],
}

/// Of each, the one that certainly means the older firewall comes first.
const FAMILY_4: Family = Family {
    single: ["iptables-legacy", "iptables"],
    restore: ["iptables-legacy-restore", "iptables-restore"],
};
const FAMILY_6: Family = Family {
    single: ["ip6tables-legacy", "ip6tables"],
    restore: ["ip6tables-legacy-restore", "ip6tables-restore"],
};

/// Makes all rules anew.
pub(super) fn install(network: &str, rules: &Rules) -> Result<(), NetworkError> {
    remove(network, &rules.bridge)?;
    let subnet6 = rules.subnet6.map(|subnet| subnet.to_string());
    let subnets = [(FAMILY_4, Some(rules.subnet.to_string())), (FAMILY_6, subnet6)];
    for (index, (family, subnet)) in subnets.iter().enumerate() {
        let Some(subnet) = subnet else { continue };
        let redirects = redirects(rules, index == 0);
        family.restore(network, &all(rules, subnet, &redirects, index == 0))?;
    }
    Ok(())
}

/// Adds or removes redirects.
pub(super) fn change(
    network: &str,
    bridge: &str,
    change: Change,
    redirects: &[Redirect],
) -> Result<(), NetworkError> {
    for (family, of_version_4) in [(FAMILY_4, true), (FAMILY_6, false)] {
        let rules: String = redirects
            .iter()
            .filter(|redirect| redirect.from.is_ipv4() == of_version_4)
            .map(|redirect| {
                let command = match change {
                    Change::Remove => "-D",
                    // Those for one address of the host come first.
                    Change::Add if !redirect.from.ip().is_unspecified() => "-I",
                    Change::Add => "-A",
                };
                format!("{command} {}", rule(bridge, redirect))
            })
            .collect();
        if !rules.is_empty() {
            family.restore(network, &format!("*nat\n{rules}COMMIT\n"))?;
        }
    }
    Ok(())
}

/// Removes all rules. What is not there is fine.
pub(super) fn remove(network: &str, bridge: &str) -> Result<(), NetworkError> {
    for family in [FAMILY_4, FAMILY_6] {
        let Some(single) = installed(&family.single)? else { continue };
        for jump in jumps(bridge) {
            let arguments: Vec<&str> = ["-w"].into_iter().chain(jump.split(' ')).collect();
            // It fails when there is no such rule, which is what was wanted.
            let _ = program::run(single, &arguments, "");
        }
        let chains = ["D", "M"].map(|letter| format!("-F LAP-{letter}-{bridge}\n-X LAP-{letter}-{bridge}\n"));
        let nat = format!("*nat\n{}COMMIT\n", chains.concat());
        let filter = format!("*filter\n-F LAP-F-{bridge}\n-X LAP-F-{bridge}\nCOMMIT\n");
        for table in [nat, filter] {
            // The same.
            let _ = family.restore(network, &table);
        }
    }
    Ok(())
}

/// The commands that remove the rules which lead to our chains.
fn jumps(bridge: &str) -> [String; 5] {
    [
        format!("-t nat -D PREROUTING ! -i {bridge} -m addrtype --dst-type LOCAL -j LAP-D-{bridge}"),
        format!("-t nat -D POSTROUTING ! -o {bridge} -j LAP-M-{bridge}"),
        format!("-D FORWARD -o {bridge} -j LAP-F-{bridge}"),
        format!("-D FORWARD -i {bridge} -j ACCEPT"),
        format!("-D FORWARD -i {bridge} -j LAP-F-{bridge}"),
    ]
}

/// All rules of one family.
fn all(rules: &Rules, subnet: &str, redirects: &str, of_version_4: bool) -> String {
    let bridge = &rules.bridge;
    let open = match rules.modes.of(of_version_4) {
        GatewayMode::Nat | GatewayMode::Isolated => String::new(),
        GatewayMode::NatUnprotected => format!("-A LAP-F-{bridge} -j ACCEPT\n"),
        // The redirects lead from the container's own addresses to themselves.
        GatewayMode::Routed => {
            let of_family = rules.redirects.iter().filter(|redirect| redirect.to.is_ipv4() == of_version_4);
            let open = |Redirect { to, transport, .. }: &Redirect| {
                let (address, port) = (to.ip(), to.port());
                format!("-A LAP-F-{bridge} -d {address} -p {transport} --dport {port} -j ACCEPT\n")
            };
            of_family.map(open).collect()
        }
    };
    let translates = rules.modes.translates(of_version_4);
    let masquerade = match rules.masquerade && translates && !rules.internal {
        true => format!("-A LAP-M-{bridge} -s {subnet} -j MASQUERADE\n"),
        false => String::new(),
    };
    // What comes from an internal network to elsewhere meets the chain as well.
    let (from, known) = match rules.internal {
        true => (format!("-j LAP-F-{bridge}"), String::new()),
        false => (
            "-j ACCEPT".to_owned(),
            format!("-A LAP-F-{bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"),
        ),
    };
    let within = if rules.internal { format!(" -o {bridge}") } else { String::new() };
    format!(
        "*nat\n\
         :LAP-D-{bridge} - [0:0]\n\
         :LAP-M-{bridge} - [0:0]\n\
         -A PREROUTING ! -i {bridge} -m addrtype --dst-type LOCAL -j LAP-D-{bridge}\n\
         -A POSTROUTING ! -o {bridge} -j LAP-M-{bridge}\n\
         {masquerade}\
         {redirects}\
         COMMIT\n\
         *filter\n\
         :LAP-F-{bridge} - [0:0]\n\
         -I FORWARD 1 -o {bridge} -j LAP-F-{bridge}\n\
         -I FORWARD 1 -i {bridge} {from}\n\
         {known}\
         -A LAP-F-{bridge} -i {bridge}{within} -j ACCEPT\n\
         -A LAP-F-{bridge} -m conntrack --ctstate DNAT -j ACCEPT\n\
         {open}\
         -A LAP-F-{bridge} -j DROP\n\
         COMMIT\n"
    )
}

/// The rules of `LAP-D-BRIDGE` of one family; those for one address of the host come first.
fn redirects(rules: &Rules, of_version_4: bool) -> String {
    let mut redirects: Vec<&Redirect> =
        rules.redirects.iter().filter(|redirect| redirect.from.is_ipv4() == of_version_4).collect();
    redirects.sort_by_key(|redirect| redirect.from.ip().is_unspecified());
    redirects.into_iter().map(|redirect| format!("-A {}", rule(&rules.bridge, redirect))).collect()
}

/// One redirect, after the command.
fn rule(bridge: &str, Redirect { from, to, transport }: &Redirect) -> String {
    let address = if from.ip().is_unspecified() { String::new() } else { format!(" -d {}", from.ip()) };
    let port = from.port();
    format!("LAP-D-{bridge}{address} -p {transport} --dport {port} -j DNAT --to-destination {to}\n")
}

/// The first of the names that is installed.
fn installed(names: &[&'static str; 2]) -> Result<Option<&'static str>, NetworkError> {
    for name in names {
        if program::is_installed(name)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

impl Family {
    fn restore(&self, network: &str, text: &str) -> Result<(), NetworkError> {
        let missing = || NetworkError::NoFirewall { network: network.to_owned(), program: self.restore[1] };
        let program = installed(&self.restore)?.ok_or_else(missing)?;
        program::run(program, &["--noflush", "--wait"], text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::publish::Transport;
    use super::*;

    #[test]
    fn rules_are_written_as_iptables_restore_reads_them() {
        let redirect = |from: &str, to: &str, transport| Redirect {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            transport,
        };
        let rules = Rules {
            bridge: "lap0".to_owned(),
            subnet: "10.176.0.0/22".parse().unwrap(),
            subnet6: None,
            masquerade: true,
            internal: false,
            modes: Default::default(),
            redirects: vec![
                redirect("0.0.0.0:53", "10.176.0.2:5353", Transport::Udp),
                redirect("192.0.2.2:80", "10.176.0.2:8080", Transport::Tcp),
                redirect("[::]:80", "[fd00::2]:8080", Transport::Tcp),
            ],
        };
        assert_eq!(
            redirects(&rules, true),
            "-A LAP-D-lap0 -d 192.0.2.2 -p tcp --dport 80 -j DNAT --to-destination 10.176.0.2:8080\n\
             -A LAP-D-lap0 -p udp --dport 53 -j DNAT --to-destination 10.176.0.2:5353\n"
        );
        assert_eq!(
            redirects(&rules, false),
            "-A LAP-D-lap0 -p tcp --dport 80 -j DNAT --to-destination [fd00::2]:8080\n"
        );
        let text = all(&rules, "10.176.0.0/22", "", true);
        assert!(text.contains("-A LAP-M-lap0 -s 10.176.0.0/22 -j MASQUERADE\n"), "{text}");
        assert_eq!(text.matches("COMMIT\n").count(), 2);
        let internal = all(&Rules { internal: true, ..rules }, "10.176.0.0/22", "", true);
        assert!(!internal.contains("MASQUERADE") && !internal.contains("ESTABLISHED"), "{internal}");
    }
}
