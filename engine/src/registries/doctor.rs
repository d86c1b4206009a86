//! Looking at a registry: how it is reached, by whom, and what it answers.

use base::CancelToken;
use registry::endpoint::{Capabilities, EndpointSpec};
use registry::{Credential, Credentials as _, Lookup, Trial};

use super::credentials::StoredCredentials;
use crate::Engine;
use crate::doctor::Finding;
use crate::error::EngineError;

impl Engine {
    /// Tells of each endpoint of `registry` where it is from, with which certificates and which login it is asked, and how
    /// each request went.
    ///
    /// # Errors
    /// When the files about registries make no sense.
    pub fn examine_registry(
        &self,
        registry: &str,
        cancel: &CancelToken,
    ) -> Result<Vec<Finding>, EngineError> {
        let mut findings: Vec<Finding> = self.proxies.iter().map(proxy).collect();
        let network = self.network()?;
        let endpoints = network.client.route(registry, "")?;
        let credentials = StoredCredentials::read(&self.registries)?;
        let mut answered = Vec::new();
        for endpoint in &endpoints {
            findings.push(Finding::fine(route(endpoint)));
            findings.extend(security(endpoint));
            let account = endpoint.account(registry);
            findings.push(login(&account, &credentials.lookup(&account, "")));
            let host = endpoint.base.host_str().map(str::to_owned);
            let host = (host, endpoint.base.port());
            if answered.contains(&host) {
                findings.push(Finding::fine("not asked: the host has answered".to_owned()));
                continue;
            }
            let client = network.client.clone();
            let trials = async { Ok::<_, EngineError>(client.try_endpoint(registry, endpoint).await) };
            let trials = network.wait(cancel, trials)?;
            if trials.iter().all(|trial| trial.outcome.is_ok()) {
                answered.push(host);
            }
            findings.extend(trials.iter().map(trial));
        }
        Ok(findings)
    }
}

fn proxy((name, value): &(String, String)) -> Finding {
    // A proxy's password is nobody's business.
    let shown = value.rsplit_once('@').map_or(value.as_str(), |(_, host)| host);
    Finding::fine(format!("{name} is {shown}"))
}

fn route(endpoint: &EndpointSpec) -> String {
    let Capabilities { resolve, pull, push } = endpoint.capabilities;
    let able = [("resolve", resolve), ("pull", pull), ("push", push)];
    let able: Vec<&str> = able.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    let url = endpoint.base.as_str().trim_end_matches('/');
    format!("{url}: for {} ({})", able.join(", "), endpoint.source)
}

/// The certificates and headers of an endpoint.
fn security(endpoint: &EndpointSpec) -> Vec<Finding> {
    let tls = &endpoint.tls;
    let mut findings = Vec::new();
    if endpoint.base.scheme() == "http" {
        findings.push(Finding::fine("no TLS: whatever is sent there can be read on the way"));
    } else if tls.skip_verify {
        let remedy = "put the certificate of its authority into a certs.d directory instead";
        findings.push(Finding::better("any certificate is accepted", remedy));
    } else {
        findings.push(Finding::fine("trusts the authorities of this system"));
    }
    findings.extend(tls.roots.iter().map(|(file, _)| Finding::fine(format!("trusts {file}"))));
    findings.extend(tls.identity.iter().map(|(file, _)| Finding::fine(format!("presents {file}"))));
    let headers =
        endpoint.headers.0.iter().map(|(name, _)| Finding::fine(format!("sends the header {name}")));
    findings.extend(headers);
    findings
}

fn login(account: &str, lookup: &Lookup) -> Finding {
    let source = lookup.source.as_deref().unwrap_or("configuration");
    let what = match (&lookup.credential, &lookup.problem) {
        (Some(Credential::Password { user, .. }), _) => format!("login to {account}: {user}, from {source}"),
        (Some(Credential::IdentityToken(_)), _) => {
            format!("login to {account}: an identity token, from {source}")
        }
        (Some(Credential::RegistryToken(_)), _) => format!("login to {account}: a token, from {source}"),
        (None, Some(problem)) => {
            return Finding::broken(
                format!("login to {account}: {problem}"),
                "lap login again, or repair it",
            );
        }
        (None, None) => format!("login to {account}: none"),
    };
    Finding::fine(what)
}

fn trial(trial: &Trial) -> Finding {
    let Trial { request, outcome, took } = trial;
    let millis = took.as_millis();
    match outcome {
        Ok(answer) => Finding::fine(format!("{request}: {answer} ({millis} ms)")),
        Err(why) => Finding::broken(format!("{request}: {why} ({millis} ms)"), ""),
    }
}
