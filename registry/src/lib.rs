//! OCI distribution client, OCI layouts and Docker archives.
