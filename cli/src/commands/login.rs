//! `lap login` and `lap logout`

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use base::reference::{DEFAULT_REGISTRY, registry_of};
use engine::HiddenInput;
use engine::registries::{Credential, SavedLogin};

use super::{StoreChoice, open};
use crate::error::CliError;
use crate::registry_args::{LoginArgs, LogoutArgs};
use crate::signals;
use crate::terminal::{complain, print_line};

/// The longest password that is read, in bytes.
const LONGEST: u64 = 32 * 1024;

/// Logs in, once the registry says that the password is right.
pub(crate) fn login(store: &StoreChoice, args: &LoginArgs) -> Result<ExitCode, CliError> {
    let registry = registry_name(args.registry.as_deref())?;
    if args.password.is_some() {
        complain("warning: other users of this machine can see --password; use --password-stdin");
    }
    let credential = credential(args)?;
    let cancel = signals::cancel_token();
    match open(store)?.login(&registry, &credential, &cancel)? {
        SavedLogin::File(path) => complain(&format!(
            "warning: the login is kept unencrypted in {}; a credential helper (credsStore) would keep it better",
            path.display()
        )),
        SavedLogin::Helper(_) => {}
    }
    print_line("Login Succeeded");
    Ok(ExitCode::SUCCESS)
}

/// Forgets a login.
pub(crate) fn logout(store: &StoreChoice, args: &LogoutArgs) -> Result<ExitCode, CliError> {
    let registry = registry_name(args.registry.as_deref())?;
    if open(store)?.logout(&registry)? {
        print_line(&format!("Removing login credentials for {registry}"));
    } else {
        print_line(&format!("Not logged in to {registry}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The host of a registry, however it was typed.
pub(super) fn registry_name(text: Option<&str>) -> Result<String, CliError> {
    let Some(text) = text else { return Ok(DEFAULT_REGISTRY.to_owned()) };
    registry_of(text).ok_or_else(|| {
        let message = format!("\"{text}\" is not the address of a registry");
        CliError::usage(message, "it looks like registry.example:5000")
    })
}

fn credential(args: &LoginArgs) -> Result<Credential, CliError> {
    let failed = |error: std::io::Error| CliError::failed(format!("cannot read standard input: {error}"));
    let user = match &args.username {
        Some(user) => user.clone(),
        None => ask("Username: ", false).map_err(failed)?,
    };
    let password = if args.password_stdin {
        let mut text = String::new();
        std::io::stdin().take(LONGEST).read_to_string(&mut text).map_err(failed)?;
        text.trim_end_matches(['\r', '\n']).to_owned()
    } else {
        match &args.password {
            Some(password) => password.0.clone(),
            None => ask("Password: ", true).map_err(failed)?,
        }
    };
    if user.is_empty() || password.is_empty() {
        let hint = "give them with -u USER --password-stdin, or type them at a terminal";
        return Err(CliError::usage("a login needs a user name and a password".to_owned(), hint));
    }
    Ok(Credential::Password { user, password })
}

/// Asks at the terminal; without one, there is no answer.
fn ask(question: &str, hidden: bool) -> std::io::Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(String::new());
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let echo = if hidden { Some(HiddenInput::begin(&stdin)?) } else { None };
    let mut line = String::new();
    stdin.lock().take(LONGEST).read_line(&mut line)?;
    if echo.is_some() {
        drop(echo);
        writeln!(stderr)?;
    }
    if line.contains('\u{3}') {
        return Err(std::io::ErrorKind::Interrupted.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
