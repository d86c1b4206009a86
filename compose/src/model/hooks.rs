//! What is run in the containers of a service beside its command, at certain moments.

use super::Service;
use crate::yaml::Node;

/// A command that is run in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hook {
    /// Program and arguments.
    pub command: Vec<String>,
    /// As whom; as the container's own process if nobody says.
    pub user: Option<String>,
    /// Whether it has every right.
    pub privileged: bool,
    /// Where; where the container's own process is if nobody says.
    pub working_dir: Option<String>,
    /// `NAME=VALUE`
    pub env: Vec<String>,
}

impl Service {
    /// What is run when a container has been started.
    pub fn post_start(&self) -> Vec<Hook> {
        self.hooks("post_start")
    }

    /// What is run before a container is ended by a command.
    pub fn pre_stop(&self) -> Vec<Hook> {
        self.hooks("pre_stop")
    }

    fn hooks(&self, key: &str) -> Vec<Hook> {
        let hook = |node: &Node| Hook {
            command: node.get("command").map_or(&[][..], Node::items).iter().filter_map(Node::text).collect(),
            user: node.get("user").and_then(Node::text),
            privileged: node.get("privileged").and_then(Node::bool) == Some(true),
            working_dir: node.get("working_dir").and_then(Node::text),
            env: super::pairs(node.get("environment")),
        };
        self.entries(key).iter().map(hook).collect()
    }
}
