//! Ports with more to them than EXPOSE takes.

use parser::span::Span;

use super::Findings;

impl Findings {
    /// `ExposeInvalidFormat` and `ExposeProtoCasing`, for one port as expanded.
    pub(crate) fn exposed_port(&self, port: &str, span: Span) {
        let (numbers, protocol) = port.split_once('/').unwrap_or((port, ""));
        if numbers.contains(':') {
            let message = format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
            );
            let inside = numbers.rsplit(':').next().unwrap_or_default();
            let help = format!("write {inside}; ports of the host are chosen when a container starts");
            self.add("ExposeInvalidFormat", span, message, help);
        }
        if protocol != protocol.to_lowercase() {
            let message = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
            let help = format!("write {numbers}/{}", protocol.to_lowercase());
            self.add("ExposeProtoCasing", span, message, help);
        }
    }
}
