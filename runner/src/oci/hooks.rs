//! Programs of the caller that are run at certain moments of a container's life (runtime-spec, "POSIX-platform
//! Hooks"). Each gets the container's state on its standard input.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::Duration;

use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::time::Timespec;
use sys::ns::{Ending, Namespaces, PidFd};
use sys::spawn::{
    Creation, Descriptors, Exec, LaunchError, LaunchFailure, NamespacesOf, Plan, Step, launch_with,
};

use super::error::OciError;
use super::record::Record;

/// How much of a hook's complaint is repeated.
const MOST_OUTPUT: u64 = 4096;

/// Where a hook is run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// Where we are.
    Runtime,
    /// In the namespaces of this process, with the number that it has here.
    Container(&'a PidFd, u32),
}

/// Runs hooks in their order; the first one that fails ends that.
pub(super) fn run(
    kind: &'static str,
    hooks: &Option<Vec<Hook>>,
    record: &Record,
    status: &str,
    place: Place<'_>,
) -> Result<(), OciError> {
    let state = || {
        let state = serde_json::to_vec(&record.state(status));
        state.map_err(|source| OciError::Record { path: record.bundle.clone(), source })
    };
    hooks.iter().flatten().try_for_each(|hook| {
        let failed = |problem: String| OciError::Hook { kind, path: hook.path().clone(), problem };
        run_one(hook, &state()?, place)
            .map_err(|error| failed(format!("cannot be run: {error}")))?
            .map_err(failed)
    })
}

/// Runs one hook; the inner error is its own failure.
fn run_one(hook: &Hook, state: &[u8], place: Place<'_>) -> io::Result<Result<(), String>> {
    let (mut input, mut output) = (memory_file()?, memory_file()?);
    input.write_all(state)?;
    input.rewind()?;
    let (plan, target) = plan(hook, place)?;
    let descriptors = Descriptors {
        streams: Some([input.as_fd(), output.as_fd(), output.as_fd()]),
        target,
        ..Descriptors::default()
    };
    let launched = match launch_with(plan, &descriptors, &mut |_, _| true) {
        Ok(launched) => launched,
        Err(LaunchFailure { error: LaunchError::Execute { source, .. }, .. }) => return Err(source),
        Err(failure) => return Ok(Err(format!("cannot be run: {}", failure.error))),
    };
    let timeout = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let in_time = wait(&launched.process, timeout)?;
    if !in_time {
        launched.process.signal(rustix::process::Signal::KILL.as_raw())?;
    }
    let (ending, _) = launched.process.wait()?;
    let mut said = Vec::new();
    output.rewind()?;
    output.take(MOST_OUTPUT).read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said);
    Ok(match ending {
        _ if !in_time => Err("did not end in time".to_owned()),
        Ending::Exited(0) => Ok(()),
        Ending::Exited(code) => Err(format!("exited with {code}: {}", said.trim())),
        Ending::Signaled(signal) => Err(format!("was killed by signal {signal}: {}", said.trim())),
    })
}

/// A file without a name; it takes any amount of output, so that nobody has to read meanwhile.
fn memory_file() -> io::Result<File> {
    Ok(memfd_create("hook", MemfdFlags::CLOEXEC)?.into())
}

/// Whether the process ended in time.
fn wait(process: &PidFd, timeout: Option<Duration>) -> io::Result<bool> {
    let timeout = timeout
        .map(|timeout| Timespec { tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 });
    loop {
        match poll(&mut [PollFd::new(process, PollFlags::IN)], timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

fn plan<'a>(hook: &Hook, place: Place<'a>) -> io::Result<(Plan, Option<&'a PidFd>)> {
    let texts = |texts: &Option<Vec<String>>| {
        texts.iter().flatten().map(|text| Ok(CString::new(text.as_str())?)).collect::<io::Result<Vec<_>>>()
    };
    let path = c_path(hook.path())?;
    let mut arguments = texts(hook.args())?;
    if arguments.is_empty() {
        arguments.push(path.clone());
    }
    let exec = Exec { candidates: vec![path], arguments, environment: texts(hook.env())?, trusted: true };
    let plan = Plan { steps: vec![Step::Umask(0o022)], exec, ..Plan::default() };
    let Place::Container(process, pid) = place else { return Ok((plan, None)) };
    let kinds = sys::ns::differing(pid).map_err(io::Error::other)?;
    let mut steps = vec![Step::Join { kinds, of: NamespacesOf::Target }];
    if kinds.contains(Namespaces::USER) {
        steps.push(Step::BecomeRoot);
    }
    steps.extend(plan.steps);
    Ok((Plan { creation: Creation::Forerunner, steps, ..plan }, Some(process)))
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(OsString::from(path).into_vec())?)
}
