//! The flags of `lap key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum KeyCommand {
    /// Make a key: FILE signs with --cache-key, and FILE.pub is what others name in a --cache-policy
    ///
    /// Both are Ed25519 keys in PEM, as openssl genpkey -algorithm ed25519 and openssl pkey -pubout write them.
    Generate(GenerateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// The file for the private key, which must not be there
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}
