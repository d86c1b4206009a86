//! A container joins and leaves networks while it runs.

use super::super::protocol::Reply;
use super::life::networks_of;
use super::requests::refused;
use super::{Phase, Supervisor, failed};
use crate::network::error::NetworkError;
use crate::network::{Attachment, Connect, Connection, Link, short};
use crate::request::Network;

impl Supervisor {
    /// Connects the container to a further network, now and whenever it is started again.
    pub(super) fn join_network(&mut self, wanted: Connect) -> Reply {
        let Network::Connected(connection) = &mut self.config.request.network else {
            return refused(NOT_CONNECTED);
        };
        if let Phase::Running(run) = &mut self.phase {
            let Some(attachment) = run.process.network_mut() else { return refused(NOT_CONNECTED) };
            if let Err(error) = attachment.join(&connection.runtime, &wanted) {
                return told(&error);
            }
        }
        connection.further.push(wanted);
        self.networks_changed()
    }

    /// Takes the container out of a network.
    pub(super) fn leave_network(&mut self, network: &str, name: &str) -> Reply {
        let Network::Connected(connection) = &mut self.config.request.network else {
            return refused(NOT_CONNECTED);
        };
        if let Phase::Running(run) = &mut self.phase {
            let Some(attachment) = run.process.network_mut() else { return refused(NOT_CONNECTED) };
            if let Err(error) = attachment.leave_network(network, name, &connection.connect.container) {
                return told(&error);
            }
        }
        if !connection.forget(network) {
            // It has to have one to be started again; without any it is one that it is alone in.
            self.config.request.network = Network::None;
        }
        self.networks_changed()
    }

    /// Forgets the further name of another container, now and whenever it is started again.
    pub(super) fn remove_link(&mut self, alias: &str) -> Reply {
        let Network::Connected(connection) = &mut self.config.request.network else {
            return refused(NOT_CONNECTED);
        };
        let Some(link) = connection.forget_link(alias) else {
            let knower = short(&connection.connect.container);
            return told(&NetworkError::NoLink { knower, alias: alias.to_owned() });
        };
        if let Phase::Running(run) = &mut self.phase {
            if let Some(attachment) = run.process.network_mut() {
                attachment.forget_link(alias);
            }
            if let Ok(Some(pid)) = run.process.pid() {
                // A file that the container may not write to, or has put something else in the place of, stays as it is
                // until the next start.
                let _ = link.leave_hosts_of(pid);
            }
        }
        self.networks_changed()
    }

    /// Writes down what has changed.
    fn networks_changed(&mut self) -> Reply {
        let before = networks_of(&self.state);
        if let Phase::Running(run) = &self.phase {
            let attachment = run.process.network();
            self.state.network = attachment.map(Attachment::endpoint);
            self.state.further_networks = attachment.map(Attachment::further_endpoints).unwrap_or_default();
        }
        self.tell_networks(&before);
        // A container that goes with its command has no file of it.
        let written = match super::super::config::Config::is_written(&self.directory) {
            Ok(true) => self.config.write(&self.directory),
            other => other.map(drop),
        };
        match written.and_then(|()| self.state.write(&self.directory)) {
            Ok(()) => Reply::Done,
            Err(error) => failed(&error),
        }
    }
}

/// The words are Docker's.
const NOT_CONNECTED: &str = "container sharing network namespace with another container or host cannot be connected to any other network";

fn told(error: &NetworkError) -> Reply {
    refused(&base::fault::chain(error))
}

impl Connection {
    /// Takes the further name of another container out; answers what it was, or `None` if there was none.
    pub fn forget_link(&mut self, alias: &str) -> Option<Link> {
        let place = self.links.iter().position(|link| link.alias == alias)?;
        Some(self.links.remove(place))
    }

    /// Takes a network out. `false` if that was the only one.
    pub fn forget(&mut self, network: &str) -> bool {
        self.further.retain(|other| other.network != network);
        if self.connect.network != network {
            return true;
        }
        // Packets leave by the next one then.
        let next = self
            .further
            .iter()
            .position(|other| other.definition.as_ref().is_none_or(|definition| !definition.internal));
        match next.or((!self.further.is_empty()).then_some(0)) {
            Some(next) => {
                let next = self.further.remove(next);
                self.connect = Connect { leads_out: true, ..next };
                true
            }
            None => false,
        }
    }
}
