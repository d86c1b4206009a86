//! Processes in namespaces: OCI spec, plan, launch and supervision.
